"""MODEL_CARD.md and report.html of a model version: self-contained, and the same for the same run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from persia_core.config import ModelConfig
from persia_core.handoff.manifest import Lineage

_WIDTH, _HEIGHT = 640, 220


@dataclass(frozen=True)
class Facts:
    """All that the pages are made from. `lineage.parent` is the checkpoint that training started from."""

    config: ModelConfig
    lineage: Lineage
    metrics: dict[str, Any]
    rows: dict[str, int]
    details: dict[str, Any]


def write_model_card(path: Path, facts: Facts) -> None:
    """A short card in Markdown: what the model is, what it was trained on, how good it was."""
    path.write_text(_render("model_card.md.j2", facts), encoding="utf-8")


def write_report(path: Path, facts: Facts) -> None:
    """One HTML page without external resources: numbers, loss, staleness, tables, lineage."""
    path.write_text(_render("report.html.j2", facts), encoding="utf-8")


def _render(template: str, facts: Facts) -> str:
    metrics = facts.metrics
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    staleness = metrics.get("staleness") or {}
    return environment.get_template(template).render(
        config=facts.config,
        lineage=facts.lineage,
        metrics=metrics,
        before=metrics.get("before"),
        after=metrics.get("after") or {},
        skipped=metrics.get("rows_skipped") or {},
        rows=facts.rows,
        details=facts.details,
        staleness=staleness,
        loss=_loss_points(metrics.get("loss") or []),
        bars=_bars(staleness.get("histogram") or {}),
        width=_WIDTH,
        height=_HEIGHT,
    )


def _number(value: Any) -> str:
    """Integers with thousands, other numbers with four decimals, missing values as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _loss_points(loss: Sequence[Sequence[float | None]]) -> dict[str, Any] | None:
    """The curve as SVG coordinates, with the ranges of both axes; None if there are not two points."""
    finite = [
        (float(step), float(value))
        for step, value in loss
        if step is not None and value is not None and math.isfinite(value)
    ]
    if len(finite) < 2:
        return None
    steps, values = zip(*finite, strict=True)
    low, high = min(values), max(values)
    span_x, span_y = (max(steps) - min(steps)) or 1.0, (high - low) or 1.0
    points = " ".join(
        f"{(step - min(steps)) / span_x * _WIDTH:.1f},{(high - value) / span_y * _HEIGHT:.1f}"
        for step, value in finite
    )
    return {"points": points, "low": low, "high": high, "first": int(min(steps)), "last": int(max(steps))}


def _bars(histogram: dict[str, int]) -> list[dict[str, Any]]:
    """One bar per staleness, its height relative to the highest."""
    if not histogram:
        return []
    highest = max(histogram.values()) or 1
    step = _WIDTH / len(histogram)
    return [
        {
            "label": label,
            "count": count,
            "x": round(position * step + step * 0.1, 1),
            "width": round(step * 0.8, 1),
            "height": round(count / highest * (_HEIGHT - 40), 1),
        }
        for position, (label, count) in enumerate(sorted(histogram.items(), key=lambda item: int(item[0])))
    ]
