"""The batches of one trainer, read ahead of their use."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persia_core.config import ModelConfig
from persia_core.data.batch import HashedBatch, to_arrays
from persia_core.data.partition import LocalPartition
from persia_core.training.order import SampleOrder, Step, share


@dataclass(frozen=True)
class TrainerBatch:
    """A trainer's share of a step. It may be empty: the trainer takes part in the step all the same."""

    step: Step
    data: HashedBatch


def trainer_batches(
    config: ModelConfig, partition: LocalPartition, order: SampleOrder, trainer: int, trainers: int
) -> Iterator[TrainerBatch]:
    """The shares of `trainer` in all steps of `order`."""
    for step in order:
        table = read_rows(partition, share(step.rows, trainer, trainers))
        yield TrainerBatch(step, to_arrays(config, table))


def read_rows(partition: LocalPartition, rows: NDArray[np.int64]) -> pa.Table:
    """The given rows in the given order; reads only the range that they span."""
    if rows.size == 0:
        return partition.read(0, 0)
    low, high = int(rows.min()), int(rows.max()) + 1
    table = partition.read(low, high)
    if high - low == rows.size and np.array_equal(rows, np.arange(low, high)):
        return table
    return table.take(rows - low)
