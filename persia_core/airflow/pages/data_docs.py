"""Data Docs as they lie in the store."""

from persia_core.handoff.layout import data_docs_prefix
from persia_core.handoff.object_store import ObjectStore

MAX_PATH = 512


def data_docs_page(store: ObjectStore, dataset: str, ds: str, page: str) -> bytes:
    """One HTML page of the Data Docs of a partition. Raises NotFound, and ValueError for what is no name."""
    return store.get(data_docs_prefix(dataset, ds) + _checked(page)).data


def _checked(page: str) -> str:
    """`page` if it stays below the folder that it is relative to, and is a page."""
    steps = page.split("/")
    if not page.endswith(".html") or len(page) > MAX_PATH or not page.isprintable() or "\\" in page:
        raise ValueError(f"{page!r} is no page")
    if any(step.strip(".") == "" for step in steps):  # empty, this or the folder above
        raise ValueError(f"{page!r} is no path of a page")
    return page
