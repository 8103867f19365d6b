"""The page as HTML: self-contained, light and dark, with nothing fetched from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persia_core.airflow import names
from persia_core.airflow.models_page.overview import ModelOverview
from persia_core.airflow.pages.render import TEMPLATES, moment
from persia_core.handoff import chart
from persia_core.page_templates import page_environment


@dataclass(frozen=True)
class Section:
    """One model: what is known of it, or in `problem` why nothing is."""

    model: str
    overview: ModelOverview | None = None
    problem: str | None = None


def models_page(sections: Sequence[Section], nonce: str, *, may_roll_back: bool) -> str:
    """HTML of all models. `nonce` marks the page's own script (Content-Security-Policy)."""
    folder = Path(__file__).parent / "templates"
    environment = page_environment(folder, Path(chart.__file__).parent / "templates", TEMPLATES)
    environment.filters |= {"number": _number, "moment": moment}
    return environment.get_template("models.html.j2").render(
        sections=sections,
        plots={s.model: chart.over_days(s.overview.days, "AUC") for s in sections if s.overview},
        nonce=nonce,
        may_roll_back=may_roll_back,
        rollback_dag=names.ROLLBACK_DAG,
        dag_of=names.daily_retrain,
        width=chart.WIDTH,
        height=chart.HEIGHT,
    )


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
