"""The product's store in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from benchmarks.batches import PREFIX, PREFIX_BITS, Batch, ids_of
from benchmarks.contestants.table import EPSILON, LEARNING_RATE, Gradients, ReadableTable
from persia_core import _native

SEED = 7
ROW_OVERHEAD_BYTES = 24  # what a row takes of a capacity beyond weights and state
_FILL = 1 << 16  # rows per lookup while filling


def table_of(rows: int, dim: int, rowwise: bool) -> dict[str, object]:
    """An Adagrad table with room for `rows` rows on each server, so that recency is tracked.

    See persia_core.embedding.tables.TableSpec.
    """
    return {
        "name": "bench",
        "prefix": PREFIX,
        "prefix_bits": PREFIX_BITS,
        "dim": dim,
        "pooling": "sum",
        "optimizer": {
            "kind": "rowwise_adagrad" if rowwise else "adagrad",
            "learning_rate": LEARNING_RATE,
            "initial_accumulator": 0.0,
            "epsilon": EPSILON,
        },
        "initializer": {"kind": "uniform", "low": -0.01, "high": 0.01},
        "expected_rows": rows,
        "capacity_bytes": rows * row_bytes(dim, rowwise),
    }


def row_bytes(dim: int, rowwise: bool) -> int:
    """What a row takes of a table's capacity."""
    return 4 * (dim + (1 if rowwise else dim)) + ROW_OVERHEAD_BYTES


def make_store(table: dict[str, object], servers: int = 1) -> _native.Store:
    """An empty store, as one of `servers` has it."""
    return _native.Store(table, SEED, servers)


def fill(store: _native.Store, ids: NDArray[np.uint64], dim: int) -> None:
    """Create a row for every id."""
    out = np.empty((_FILL, dim), np.float32)
    for start in range(0, len(ids), _FILL):
        part = ids[start : start + _FILL]
        store.lookup(part, True, out[: len(part)])


class _Ours:
    def __init__(self, rows: int, dim: int, rowwise: bool, batch: int, threads: int) -> None:
        table = table_of(rows, dim, rowwise)
        # No thread's share has over 2 % more rows than the mean.
        spare = rows // 50 if threads > 1 else 0
        table["capacity_bytes"] = (rows + spare) * row_bytes(dim, rowwise)
        self._store = _native.Store(table, SEED, threads=threads)
        self._out = np.zeros((batch, dim), np.float32)
        fill(self._store, ids_of(np.arange(rows)), dim)

    def lookup(self, batch: Batch) -> None:
        self._store.lookup(batch.ids, True, self._out)

    def step(self, batch: Batch, gradients: Gradients) -> None:
        self._store.lookup(batch.ids, True, self._out)
        self._store.update(batch.ids, gradients)

    def read(self, batch: Batch) -> NDArray[np.float32]:
        self.lookup(batch)
        return self._out.copy()


@contextmanager
def open_table(rows: int, dim: int, rowwise: bool, batch: int, threads: int = 1) -> Iterator[ReadableTable]:
    """A store with all rows created, for batches of `batch` ids."""
    yield _Ours(rows, dim, rowwise, batch, threads)
