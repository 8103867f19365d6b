"""MODEL_CARD.md and report.html of a model version, made from its manifest and nothing else.

The pages are parts of the version, so they do not show its digest; everything else that they show is in
`lineage`, `metrics` and `details` of the manifest. The same manifest gives the same bytes.
"""

from pathlib import Path
from typing import Any

from persia_core.handoff import chart
from persia_core.handoff.manifest import Lineage
from persia_core.page_templates import page_environment

MODEL_CARD = "MODEL_CARD.md"
REPORT = "report.html"


def write_pages(directory: Path, lineage: Lineage, metrics: dict[str, Any], details: dict[str, Any]) -> None:
    """Write both pages to `directory`; the arguments are the fields of the version's manifest."""
    for name, template in ((MODEL_CARD, "model_card.md.j2"), (REPORT, "report.html.j2")):
        (directory / name).write_text(_render(template, lineage, metrics, details), encoding="utf-8")


def _render(template: str, lineage: Lineage, metrics: dict[str, Any], details: dict[str, Any]) -> str:
    environment = page_environment(Path(__file__).parent / "templates")
    environment.filters["number"] = _number
    environment.filters["share"] = _share
    tables = details["tables"]
    return environment.get_template(template).render(
        lineage=lineage,
        metrics=metrics,
        details=details,
        model=details["model"],
        tables=tables,
        most_rows=max((table["rows"] for table in tables.values()), default=0) or 1,
        before=metrics.get("before"),
        after=metrics.get("after") or {},
        skipped=_most_first(metrics.get("rows_skipped")),
        rejected=_most_first((details.get("data") or {}).get("rejected")),
        staleness=metrics.get("staleness") or {},
        data=details.get("data"),
        days=details.get("history") or [],
        width=chart.WIDTH,
        height=chart.HEIGHT,
        **_plots(metrics, details),
    )


def _plots(metrics: dict[str, Any], details: dict[str, Any]) -> dict[str, chart.Chart | None]:
    loss = [
        (step, value) for step, value in metrics.get("loss") or [] if step is not None and value is not None
    ]
    bins = metrics.get("calibration_bins") or {}
    reliability = {
        f"{when} training": [(b["predicted"], b["observed"], b["rows"]) for b in bins.get(when) or []]
        for when in ("before", "after")
    }
    counts = (metrics.get("staleness") or {}).get("histogram") or {}
    days = [(day["ds"], day["auc"]) for day in details.get("history") or []]
    return {
        "loss_plot": chart.curve(loss, "step", "loss"),
        "auc_plot": chart.over_days(days, "AUC"),
        "calibration_plot": chart.calibration(reliability),
        "staleness_plot": chart.histogram(
            {int(value): count for value, count in counts.items()}, "batches between reading and applying"
        ),
    }


def _most_first(counts: dict[str, int] | None) -> list[tuple[str, int]]:
    return sorted((counts or {}).items(), key=lambda item: (-item[1], item[0]))


def _number(value: Any) -> str:
    """Integers with thousands, other numbers with four decimals, missing values as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _share(part: int | None, whole: int | None) -> str:
    """Per cent, with one decimal."""
    return "–" if part is None or not whole else f"{100 * part / whole:.1f} %"
