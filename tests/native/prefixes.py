"""What a pipeline may see, by an oracle: a lookup reads the rows after some of the updates before it.

Updates of a trainer reach a server in the order in which its batches were given back, so what a lookup read
of a server is the state after a prefix of them: at least all batches but the last `staleness` - 1, and none
that came after the lookup.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import ReferenceTable, batch_of

from persia_core import _native
from persia_core.data.batch import HashedBatch

Arrays = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Numbered:
    """A batch that knows its place: one id per sample and feature, one feature per table."""

    number: int
    data: HashedBatch


def numbered(tables: list[dict[str, Any]], number: int, values: list[NDArray[np.int64]]) -> Numbered:
    ids, offsets = batch_of(tables, values)
    labels = np.zeros(len(offsets[0]) - 1, np.float32)
    return Numbered(number, HashedBatch(labels, np.zeros((len(labels), 0), np.float32), ids, offsets))


class Prefixes:
    """The tables after every batch that was given back. No other trainer may have their ids."""

    def __init__(self, tables: list[dict[str, Any]], seed: int, servers: int, staleness: int) -> None:
        self.states = [[ReferenceTable(table, seed) for table in tables]]
        self.latest = [0] * servers  # of each server, the least prefix that it can have been seen with
        self._staleness = staleness

    def check(self, batch: Numbered, pooled: Arrays) -> None:
        """`pooled` is what the lookup of `batch` gave, per feature [rows, dim]."""
        first = max(0, batch.number + 1 - self._staleness)
        last = min(batch.number, len(self.states) - 1)
        for server, latest in enumerate(self.latest):
            fitting = (n for n in range(max(first, latest), last + 1) if self._is(n, server, batch, pooled))
            found = next(fitting, None)
            assert found is not None, f"batch {batch.number}: no state that server {server} may have been in"
            self.latest[server] = found

    def give_back(self, batch: Numbered, gradients: Arrays | None, scale: float) -> None:
        """The batch is given back with these gradients, or discarded."""
        after = [_copied(table) for table in self.states[-1]]
        for feature, table in enumerate(after):
            ids, offsets = batch.data.ids[feature], batch.data.offsets[feature]
            table.pool(ids, offsets, create=True)
            if gradients is not None:
                table.update([(ids, offsets, gradients[feature])], scale)
        self.states.append(after)

    def _is(self, prefix: int, server: int, batch: Numbered, pooled: Arrays) -> bool:
        for feature, state in enumerate(self.states[prefix]):
            ids, offsets = batch.data.ids[feature], batch.data.offsets[feature]
            mine = np.flatnonzero(_native.server_of(ids, len(self.latest)) == server)
            expected = _copied(state).pool(ids, offsets, create=True)
            if not np.array_equal(pooled[feature][mine], expected[mine]):
                return False
        return True


def _copied(table: ReferenceTable) -> ReferenceTable:
    """Rows are replaced and never changed: they need no copies."""
    copied = copy.copy(table)
    copied.rows, copied.state, copied.used = dict(table.rows), dict(table.state), dict(table.used)
    copied.seen, copied.counts = dict(table.seen), dict(table.counts)
    return copied
