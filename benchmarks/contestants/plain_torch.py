"""torch.nn.Embedding with sparse gradients and torch.optim.Adagrad, elementwise."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.batches import Batch
from benchmarks.contestants.table import EPSILON, LEARNING_RATE, Gradients, ReadableTable


class _Torch:
    def __init__(self, rows: int, dim: int, threads: int) -> None:
        self._threads = threads
        weights = torch.empty(rows, dim).uniform_(-0.01, 0.01)
        self._module = torch.nn.Embedding(rows, dim, sparse=True, _weight=weights)
        self._optimizer = torch.optim.Adagrad(self._module.parameters(), lr=LEARNING_RATE, eps=EPSILON)

    def lookup(self, batch: Batch) -> None:
        torch.set_num_threads(self._threads)
        with torch.no_grad():
            self._module(torch.from_numpy(batch.rows))

    def step(self, batch: Batch, gradients: Gradients) -> None:
        torch.set_num_threads(self._threads)
        self._module(torch.from_numpy(batch.rows)).backward(torch.from_numpy(gradients))
        self._optimizer.step()
        self._optimizer.zero_grad()

    def read(self, batch: Batch) -> NDArray[np.float32]:
        with torch.no_grad():
            weights: NDArray[np.float32] = self._module(torch.from_numpy(batch.rows)).numpy()
            return weights


@contextmanager
def open_table(rows: int, dim: int, threads: int) -> Iterator[ReadableTable]:
    """A table that is an array: row numbers instead of ids, no hashing."""
    yield _Torch(rows, dim, threads)
