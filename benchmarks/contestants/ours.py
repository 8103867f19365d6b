"""The product's store in this process: one, or two on two threads with the ids split between them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.batches import PREFIX, PREFIX_BITS, Batch, ids_of
from benchmarks.contestants.table import EPSILON, LEARNING_RATE, Gradients, ReadableTable, Table
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


class _OneThread:
    def __init__(self, rows: int, dim: int, rowwise: bool, batch: int) -> None:
        self._store = make_store(table_of(rows, dim, rowwise))
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


class _TwoThreads:
    def __init__(self, rows: int, dim: int, rowwise: bool, batch: int, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        table = table_of(rows, dim, rowwise)
        table["capacity_bytes"] = (rows * 51 // 100) * row_bytes(dim, rowwise)  # no half has over 51 %
        self._stores = [make_store(table, servers=2) for _ in range(2)]
        self._out = [np.zeros((batch, dim), np.float32) for _ in range(2)]
        ids = ids_of(np.arange(rows))
        server = _native.server_of(ids, 2)
        self._both(lambda half: fill(self._stores[half], np.ascontiguousarray(ids[server == half]), dim))

    def _both(self, work: Any) -> None:
        for future in [self._pool.submit(work, half) for half in range(2)]:
            future.result()

    def lookup(self, batch: Batch) -> None:
        def work(half: int) -> None:
            ids = batch.halves[half]
            self._stores[half].lookup(ids, True, self._out[half][: len(ids)])

        self._both(work)

    def step(self, batch: Batch, gradients: Gradients) -> None:
        def work(half: int) -> None:
            ids = batch.halves[half]
            self._stores[half].lookup(ids, True, self._out[half][: len(ids)])
            self._stores[half].update(ids, gradients[: len(ids)])

        self._both(work)


@contextmanager
def open_table(rows: int, dim: int, rowwise: bool, batch: int) -> Iterator[ReadableTable]:
    """One store with all rows created, for batches of `batch` ids."""
    yield _OneThread(rows, dim, rowwise, batch)


@contextmanager
def open_two(rows: int, dim: int, rowwise: bool, batch: int) -> Iterator[Table]:
    """Two stores with the rows between them, each on a thread of its own."""
    with ThreadPoolExecutor(2) as pool:
        yield _TwoThreads(rows, dim, rowwise, batch, pool)
