"""HTML of our pages: self-contained, light and dark."""

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from persia_core.page_templates import page_environment

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Every value is escaped."""
    environment = page_environment(TEMPLATES)
    environment.filters["number"] = _number
    return environment.get_template(template).render(**values)


def page_policy() -> str:
    """The Content-Security-Policy of these pages: one script runs, the one that follows Airflow's theme."""
    digest = hashlib.sha256(render("theme.js").encode()).digest()
    script = f"'sha256-{base64.b64encode(digest).decode()}'"
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {script}"


def moment(text: str) -> str:
    """A time of ISO 8601 for people, in UTC; a text that is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return text


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
