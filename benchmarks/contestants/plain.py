"""The plain reference and the physical limit: C++ from native/bench, called through ctypes."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.batches import Batch, ids_of
from benchmarks.contestants.table import EPSILON, LEARNING_RATE, Gradients, ReadableTable, Table
from benchmarks.machine import PROJECT

LIBRARY = PROJECT / "build" / "bench" / "bench" / "libpersia_bench.so"


def _library() -> ctypes.CDLL:
    if not LIBRARY.exists():
        raise SystemExit(f"{LIBRARY} is not built\n  what to do: start the benchmark by `make bench-store`")
    library = ctypes.CDLL(str(LIBRARY))
    pointer, u64, u32, f32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float
    signatures = {
        "reference_new": (pointer, [pointer, u64, u32]),
        "reference_free": (None, [pointer]),
        "reference_lookup": (None, [pointer, pointer, u64, pointer]),
        "reference_update": (None, [pointer, pointer, u64, pointer, f32, f32]),
        "limit_new": (pointer, [u64, u32]),
        "limit_free": (None, [pointer]),
        "limit_read": (f32, [pointer, pointer, u64, u32]),
        "limit_read_write": (None, [pointer, pointer, u64]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _at(array: NDArray[Any]) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("C++ reads arrays without gaps only")
    return int(array.ctypes.data)


class _Reference:
    def __init__(self, library: ctypes.CDLL, rows: int, dim: int, batch: int) -> None:
        self._library = library
        self._table = library.reference_new(_at(ids := ids_of(np.arange(rows))), len(ids), dim)
        self._out = np.zeros((batch, dim), np.float32)

    def lookup(self, batch: Batch) -> None:
        self._library.reference_lookup(self._table, _at(batch.ids), len(batch.ids), _at(self._out))

    def step(self, batch: Batch, gradients: Gradients) -> None:
        self.lookup(batch)
        self._library.reference_update(
            self._table, _at(batch.ids), len(batch.ids), _at(gradients), LEARNING_RATE, EPSILON
        )

    def read(self, batch: Batch) -> NDArray[np.float32]:
        self.lookup(batch)
        return self._out.copy()

    def close(self) -> None:
        self._library.reference_free(self._table)


class _Limit:
    def __init__(self, library: ctypes.CDLL, rows: int, dim: int) -> None:
        self._library = library
        self._dim = dim
        self._rows = library.limit_new(rows, 2 * dim)

    def lookup(self, batch: Batch) -> None:
        self._library.limit_read(self._rows, _at(batch.rows), len(batch.rows), self._dim)

    def step(self, batch: Batch, gradients: Gradients) -> None:
        self.lookup(batch)
        self._library.limit_read_write(self._rows, _at(batch.rows), len(batch.rows))

    def close(self) -> None:
        self._library.limit_free(self._rows)


@contextmanager
def open_reference(rows: int, dim: int, batch: int) -> Iterator[ReadableTable]:
    """The reference with all rows."""
    table = _Reference(_library(), rows, dim, batch)
    try:
        yield table
    finally:
        table.close()


@contextmanager
def open_limit(rows: int, dim: int) -> Iterator[Table]:
    """Rows of the size that elementwise Adagrad makes them: weights and as much state."""
    table = _Limit(_library(), rows, dim)
    try:
        yield table
    finally:
        table.close()
