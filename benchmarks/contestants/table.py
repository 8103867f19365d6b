"""What every contestant offers, and the settings that all of them share."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.batches import Batch

LEARNING_RATE = 0.05
EPSILON = 1e-8

Gradients = NDArray[np.float32]  # [ids of a batch, dim]


class Table(Protocol):
    """A prefilled embedding table."""

    def lookup(self, batch: Batch) -> None:
        """Read the weights of every id of the batch, duplicates too, into an array [ids, dim]."""

    def step(self, batch: Batch, gradients: Gradients) -> None:
        """The same, then apply a gradient per id of the batch."""


class ReadableTable(Table, Protocol):
    """A table whose weights can be looked at."""

    def read(self, batch: Batch) -> NDArray[np.float32]:
        """A copy of the weights of every id of the batch, [ids, dim]."""
