"""Tables that are taken from shared memory again, beside the same from local disk and from S3."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.checkpoint_limits import seconds
from benchmarks.checkpoint_tables import SERVERS, filled, tables
from persia_core import _native
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.transfer import download_and_verify, upload_parts, verify_parts

_ASK_EVERY_S = 0.01


class WarmTables:
    """Tables whose servers keep segments in the directory `segments`, of `rows` rows."""

    def __init__(self, rows: int, segments: Path) -> None:
        self._rows = rows
        self._segments = segments
        self._worker = filled(rows, segments)

    def save(self, place: Path) -> list[Path]:
        """A cut: the parts in `place`, and the segments that stand for them."""
        self._worker.begin_save(str(place))
        while self._worker.finish_save() is None:
            time.sleep(_ASK_EVERY_S)
        return sorted(place.iterdir())

    def load(self, parts: list[Path], warm: bool) -> float:
        """Seconds from the start of LOAD until the tables of new servers are ready.

        With `warm` from the segments. Raises RuntimeError if they were not taken from where they should be.
        """
        worker = tables(self._rows, SERVERS, self._segments if warm else None)
        taken = seconds(lambda: worker.load([str(path) for path in parts]))
        attached = _attached(worker)
        if attached != (SERVERS if warm else 0):
            raise RuntimeError(f"{attached} of {SERVERS} servers took their tables from memory, warm: {warm}")
        return taken


def warm_round(
    warm: WarmTables, store: ObjectStore, manifest_of: Callable[[Path], Manifest], prefix: str
) -> dict[str, float]:
    """Seconds of each, one after the other: a neighbour slows all of them alike."""
    with tempfile.TemporaryDirectory(prefix="persia-bench-") as directory:
        place, fetched = Path(directory, "parts"), Path(directory, "fetched")
        place.mkdir()
        parts = warm.save(place)
        manifest = manifest_of(place)
        upload_parts(store, prefix, place, manifest)
        values = {"warm": warm.load(parts, warm=True)}
        digests = seconds(lambda: verify_parts(place, manifest))
        values["disk"] = warm.load(parts, warm=False)
        values["disk with digests"] = digests + values["disk"]
        download = seconds(lambda: download_and_verify(store, prefix, fetched, "checkpoint"))
        values["s3"] = download + warm.load([fetched / path.name for path in parts], warm=False)
    return values


def _attached(worker: _native.EmbeddingWorker) -> int:
    stats: list[dict[str, Any]] = worker.stats()
    return sum(int(server["segments"]["attached"]) for server in stats if "segments" in server)
