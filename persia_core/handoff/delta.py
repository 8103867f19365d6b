"""Deltas: what changed in a table since the parent version, and the parent with it applied.

A delta is two files: the rows that are new or have other bytes, and the ids that are gone. Both ascend, so
it is made and applied in one pass over sorted rows, in bounded memory. See docs/formats/model_version.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from persia_core.errors import Corrupt
from persia_core.handoff.embedding_file import EmbeddingFile, EmbeddingWriter
from persia_core.handoff.embedding_rows import IDS, Ahead, EmbeddingRows


@dataclass(frozen=True)
class DeltaRows:
    """How many rows a delta holds: `changed` that are new or other, `removed` that are gone."""

    changed: int
    removed: int


class DeltaWriter:
    """Compares a table, handed over in ascending order of id, with its parent; writes the delta."""

    def __init__(self, parent: EmbeddingFile, changed: Path, removed: Path, kind: str, dim: int) -> None:
        self._parent = Ahead(parent.chunks(), kind, dim)
        self._changed = EmbeddingWriter(changed, kind, dim)
        self._removed = EmbeddingWriter(removed, IDS, 0)

    def __enter__(self) -> "DeltaWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for rows in self._parent.rest():
                self._remove(rows)
        self._changed.__exit__(kind, error, trace)
        self._removed.__exit__(kind, error, trace)

    @property
    def written(self) -> DeltaRows:
        """What the delta holds; complete after the writer was closed."""
        return DeltaRows(self._changed.rows, self._removed.rows)

    def add(self, rows: EmbeddingRows) -> None:
        """The next rows of the table."""
        if not len(rows):
            return
        same = np.zeros(len(rows), np.bool_)
        packed = rows.packed()
        for old in self._parent.upto(rows.ids[-1]):
            position = np.minimum(np.searchsorted(old.ids, rows.ids), len(old) - 1)
            same |= (old.packed()[position] == packed).all(axis=1)
            self._remove(old.take(~np.isin(old.ids, rows.ids, assume_unique=True)))
        self._changed.write(rows.take(~same))

    def _remove(self, rows: EmbeddingRows) -> None:
        self._removed.write(EmbeddingRows(rows.ids, np.empty((len(rows), 0), np.uint8)))


def apply_delta(
    parent: EmbeddingFile, changed: EmbeddingFile, removed: EmbeddingFile, out: Path, kind: str, dim: int
) -> tuple[int, str]:
    """Write the parent with a delta applied to `out`; returns its number of rows and its digest (hex).

    The digest is what the version's manifest says of the table, or this is not its parent or not its
    delta: the caller compares. Raises Corrupt if an id to be removed is not there.
    """
    with EmbeddingWriter(out, kind, dim) as writer:
        for rows in _applied(Ahead(changed.chunks(), kind, dim), Ahead(removed.chunks(), IDS, 0), parent):
            writer.write(rows)
    return writer.rows, writer.digest


def _applied(changed: Ahead, removed: Ahead, parent: EmbeddingFile) -> Iterator[EmbeddingRows]:
    for old in parent.chunks():
        last = old.ids[-1]
        new, gone = changed.all_upto(last), removed.all_upto(last)
        if not np.isin(gone.ids, old.ids, assume_unique=True).all():
            raise _foreign()
        stay = ~np.isin(old.ids, np.concatenate([new.ids, gone.ids]))
        rows = EmbeddingRows.joined([old.take(stay), new])
        yield rows.take(np.argsort(rows.ids, kind="stable"))
    if any(len(rows) for rows in removed.rest()):
        raise _foreign()
    yield from changed.rest()


def _foreign() -> Corrupt:
    return Corrupt("a delta removes an id that its parent does not have", "fetch the version in full instead")
