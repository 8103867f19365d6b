"""The tables that are saved and restored, and training on them beside a save."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.batches import ids_of, make_batches
from benchmarks.contestants.ours import SEED, row_bytes, table_of
from persia_core import _native

DIM = 64
SERVERS = 2
_FILL = 1 << 17  # rows per lookup while filling
_BATCH = 8192  # ids of a training batch
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Snapshot:
    """Seconds that the snapshot took from training, and of the save; batches per second around it."""

    pause_s: float
    save_s: float
    before: float
    during: float
    after: float


def row_bytes_of_file() -> int:
    """Id, weights, state of Adagrad and last_used of a row in a part."""
    return 8 + 4 * (DIM + DIM) + 8


def tables(rows: int, servers: int, segments: Path | None = None) -> _native.EmbeddingWorker:
    """Empty ones, on servers in this process with one thread each, which keep them in `segments`."""
    table = table_of(rows, DIM, rowwise=False)
    table["capacity_bytes"] = rows * row_bytes(DIM, rowwise=False)  # on each server: none evicts
    worker = _native.EmbeddingWorker(
        transport="in-process", servers=servers, tables=[table], features=[0], trainer=0, trainers=1,
        staleness=1, combine=False, seed=SEED, timeout_s=_TIMEOUT_S, segments=str(segments or ""),
    )  # fmt: skip
    worker.configure()
    return worker


def filled(rows: int, segments: Path | None = None) -> _native.EmbeddingWorker:
    """Tables that hold `rows` rows; `segments` is that of `tables`."""
    worker = tables(rows, SERVERS, segments)
    for batch, start in enumerate(range(0, rows, _FILL), 1):
        ids = ids_of(np.arange(start, min(start + _FILL, rows)))
        worker.discard(worker.lookup(batch, [ids], [_offsets(len(ids))], training=True))
    return worker


def snapshot(
    worker: _native.EmbeddingWorker, rows: int, place: Path, number: int, measured_s: float
) -> Snapshot:
    """Train for `measured_s`, begin a save, train until it is done, train on. `number` tells rounds apart."""
    training = _Training(worker, rows, first_batch=number << 32)
    before = training.rate(lambda elapsed: elapsed >= measured_s)
    start = time.perf_counter()
    worker.begin_save(str(place))
    pause = time.perf_counter() - start
    during = training.rate(lambda _: worker.finish_save() is not None)
    save = time.perf_counter() - start
    after = training.rate(lambda elapsed: elapsed >= measured_s)
    return Snapshot(pause, save, before, during, after)


class _Training:
    """Lookups and updates of Zipf batches, one at a time."""

    def __init__(self, worker: _native.EmbeddingWorker, rows: int, first_batch: int) -> None:
        self._worker = worker
        self._batches = make_batches("zipf", rows, 64, _BATCH, seed=rows)
        self._next = first_batch
        self._gradient = np.full((_BATCH, DIM), 0.01, np.float32)

    def rate(self, enough: Callable[[float], bool]) -> float:
        """Batches per second until `enough` says so, given the seconds so far; asked after every eighth."""
        start = time.perf_counter()
        done = 0
        while True:
            for _ in range(8):
                batch = self._batches[self._next % len(self._batches)]
                lookup = self._worker.lookup(self._next, [batch.ids], [_offsets(_BATCH)], training=True)
                self._worker.update(lookup, [self._gradient], 1.0)
                self._next += 1
                done += 1
            elapsed = time.perf_counter() - start
            if enough(elapsed):
                return done / elapsed


def _offsets(count: int) -> NDArray[np.int64]:
    return np.arange(count + 1, dtype=np.int64)
