"""Keeping those who publish a prefix and those who retire it out of each other's way.

A publisher trusts parts that it finds whole, and whoever retires deletes them one by one: together they could
leave a manifest whose parts are gone. So each sets a mark before it touches the prefix, and then looks for a
mark of the other kind; whoever sees one steps back. Where a write is seen by the next read, at least one of
two that meet sees the other. A mark is of one attempt alone: several may publish the same prefix at once, and
several retire it. Marks of processes that died are removed by `persia sweep`.
"""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from persia_core.errors import StorageUnavailable
from persia_core.handoff.layout import mark_key
from persia_core.handoff.object_store import ObjectStore

logger = logging.getLogger(__name__)

Kind = Literal["publishing", "retiring"]


@contextmanager
def publishing(store: ObjectStore, prefix: str) -> Iterator[None]:
    """While this lasts nobody begins to retire `prefix`.

    Raises StorageUnavailable if somebody is retiring it: that ends, and then publishing can succeed.
    """
    with _mark(store, prefix, "publishing"):
        if _is_marked(store, prefix, "retiring"):
            raise StorageUnavailable(
                f"{store.uri(prefix)} is being retired at this moment",
                "run again when `persia retire` has ended; if it was killed, `persia sweep` removes its mark",
            )
        yield


@contextmanager
def retiring(store: ObjectStore, prefix: str) -> Iterator[bool]:
    """True, and then nobody begins to publish `prefix` while this lasts; False if somebody does already."""
    with _mark(store, prefix, "retiring"):
        yield not _is_marked(store, prefix, "publishing")


@contextmanager
def _mark(store: ObjectStore, prefix: str, kind: Kind) -> Iterator[None]:
    key = mark_key(prefix, kind, uuid.uuid4().hex)
    store.put(key, b"")
    try:
        yield
    finally:
        store.delete(key)


def _is_marked(store: ObjectStore, prefix: str, kind: Kind) -> bool:
    return any(True for _ in store.list(mark_key(prefix, kind, "")))
