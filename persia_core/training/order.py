"""Which samples make a step, and which of them are a trainer's: a pure function of the row number.

The order of samples does not depend on the number of trainers, so neither does a data position.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHUFFLE_BLOCK = 65_536  # rows that are read together and permuted; bounds the memory of a shuffle


@dataclass(frozen=True)
class Step:
    """One step: `number` counts from 0 over all epochs, `rows` int64 [n] are rows of the partition."""

    number: int
    epoch: int
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class SampleOrder:
    """The order in which `rows` samples are visited, `epochs` times, `batch` at a step.

    Without `shuffle` the order is that of the partition. With it, blocks of SHUFFLE_BLOCK rows are
    visited in random order and permuted inside: a function of (seed, epoch) alone.
    """

    rows: int
    batch: int
    epochs: int = 1
    shuffle: bool = False
    seed: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def __iter__(self) -> Iterator[Step]:
        return self.between(0, self.steps)

    def between(self, start: int, stop: int) -> Iterator[Step]:
        """The steps [start, stop) as they are in the whole order, without making those before."""
        for epoch in range(start // self.steps_per_epoch, self.epochs):
            number = max(start, epoch * self.steps_per_epoch)
            held = np.empty(0, dtype=np.int64)
            for block in self._blocks(epoch, (number - epoch * self.steps_per_epoch) * self.batch):
                held = np.concatenate([held, block]) if held.size else block
                while held.size >= self.batch:
                    if number >= stop:
                        return
                    yield Step(number, epoch, held[: self.batch])
                    held = held[self.batch :]
                    number += 1
            if held.size:
                if number >= stop:
                    return
                yield Step(number, epoch, held)
                number += 1

    def visited(self, step: int) -> tuple[int, int]:
        """The epoch that step `step` is in, and how many rows of it were visited before."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch, within * self.batch

    def _blocks(self, epoch: int, skip: int) -> Iterator[NDArray[np.int64]]:
        """The rows of an epoch without the first `skip`, block by block."""
        starts = list(range(0, self.rows, SHUFFLE_BLOCK))
        if self.shuffle:
            starts = self._generator(epoch, 0).permutation(starts).tolist()
        for start in starts:
            size = min(SHUFFLE_BLOCK, self.rows - start)
            if skip >= size:
                skip -= size
                continue
            block = np.arange(start, start + size, dtype=np.int64)
            yield (self._generator(epoch, start + 1).permutation(block) if self.shuffle else block)[skip:]
            skip = 0

    def _generator(self, epoch: int, counter: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, epoch], counter=counter))


@dataclass(frozen=True)
class Stretch:
    """Some steps of an order, [start, stop): what is trained without a pause."""

    order: SampleOrder
    start: int
    stop: int

    def __iter__(self) -> Iterator[Step]:
        return self.order.between(self.start, self.stop)


def share(rows: NDArray[np.int64], trainer: int, trainers: int) -> NDArray[np.int64]:
    """The samples of one step that are `trainer`'s: a contiguous piece, sizes differ by one at most."""
    return rows[rows.size * trainer // trainers : rows.size * (trainer + 1) // trainers]
