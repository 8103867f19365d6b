"""The verdict on a partition as a page: the first thing that who opens the Data Docs sees.

Self-contained: it needs no network and no other file.
"""

from collections.abc import Sequence
from pathlib import Path

from persia_core.page_templates import page_environment
from persia_core.validation.data_verdict import DataVerdict

_WORDS = {"pass": "passed", "warn": "passed with warnings", "fail": "refused"}


def verdict_page(verdict: DataVerdict, pages: Sequence[str]) -> str:
    """HTML with every check, the gravest first, and links to `pages` (relative paths)."""
    environment = page_environment(Path(__file__).parent / "templates")
    return environment.get_template("data_verdict.html.j2").render(verdict=verdict, pages=pages, words=_WORDS)
