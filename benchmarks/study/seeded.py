"""Fresh tables for every seed in one job: the ids of each seed are its own."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persia_core._native import EmbeddingWorker, Lookup, PendingLookup

PREFIX_BITS = 16  # that a configuration may use at most; they name the table, and stay
_LOW_BITS = (1 << (64 - PREFIX_BITS)) - 1


def key_of(seed: int) -> np.uint64:
    """48 bits, a function of the seed."""
    digest = hashlib.sha256(f"seed {seed}".encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little") & _LOW_BITS)


class SeedWorker:
    """The worker as a training run of one seed sees it.

    Every id is changed by a constant of the seed (exclusive or, so different ids stay different). A row is
    a function of the server's seed and its id: each seed begins with rows of its own, untrained, without
    new servers. Two seeds would share a row where two ids of theirs meet, among 2**48: as good as never.
    Batches are numbered on from those of earlier seeds, as servers want them.
    """

    def __init__(self, worker: EmbeddingWorker, seed: int, first_batch: int) -> None:
        self._worker = worker
        self._key = key_of(seed)
        self._offset = first_batch
        self.next_batch = first_batch

    def lookup(
        self,
        batch: int,
        ids: list[NDArray[np.uint64]],
        offsets: list[NDArray[np.int64]],
        training: bool,
        buffers: list[NDArray[np.float32]] | None = None,
    ) -> Lookup:
        """As of EmbeddingWorker."""
        number = self._number(batch, training)
        return self._worker.lookup(number, [each ^ self._key for each in ids], offsets, training, buffers)

    def begin_lookup(
        self,
        batch: int,
        ids: list[NDArray[np.uint64]],
        offsets: list[NDArray[np.int64]],
        training: bool,
        buffers: list[NDArray[np.float32]] | None = None,
    ) -> PendingLookup:
        """As of EmbeddingWorker."""
        number, changed = self._number(batch, training), [each ^ self._key for each in ids]
        return self._worker.begin_lookup(number, changed, offsets, training, buffers)

    def _number(self, batch: int, training: bool) -> int:
        """Which batch of all seeds this one is."""
        if not training:
            return batch
        if batch == 0:  # of a new partition
            self._offset = self.next_batch
        self.next_batch = batch + self._offset + 1
        return batch + self._offset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)
