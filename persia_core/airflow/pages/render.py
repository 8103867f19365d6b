"""HTML of our pages: self-contained, light and dark."""

from pathlib import Path
from typing import Any

from persia_core.page_templates import page_environment


def render(template: str, **values: Any) -> str:
    """Every value is escaped."""
    environment = page_environment(Path(__file__).parent / "templates")
    environment.filters["number"] = _number
    return environment.get_template(template).render(**values)


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
