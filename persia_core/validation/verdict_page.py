"""The verdict on a partition as a page: the first thing that who opens the Data Docs sees.

Self-contained, because the pages of Great Expectations show next to nothing without a network.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from persia_core.validation.data_verdict import DataVerdict


def verdict_page(verdict: DataVerdict, pages: Sequence[str]) -> str:
    """HTML with every check, failed ones first, and links to `pages` (relative paths)."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("data_verdict.html.j2").render(verdict=verdict, pages=pages)
