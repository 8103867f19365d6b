"""The batches of one trainer, read ahead of their use."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persia_core.config import ModelConfig
from persia_core.data.batch import HashedBatch, to_arrays
from persia_core.data.partition import LocalPartition
from persia_core.data.schema import WEIGHT
from persia_core.training.order import Step, share


@dataclass(frozen=True)
class TrainerBatch:
    """A trainer's share of a step. It may be empty: the trainer takes part in the step all the same.

    `total_weight`: of all samples of the step, over all trainers; their number if they have no weights.
    """

    step: Step
    data: HashedBatch
    total_weight: float


def trainer_batches(
    config: ModelConfig, partition: LocalPartition, steps: Iterable[Step], trainer: int, trainers: int
) -> Iterator[TrainerBatch]:
    """The shares of `trainer` in `steps`."""
    for step in steps:
        table = read_rows(partition, share(step.rows, trainer, trainers))
        yield TrainerBatch(step, to_arrays(config, table), total_weight(partition, step.rows))


def total_weight(partition: LocalPartition, rows: NDArray[np.int64]) -> float:
    """The sum of the weights of the given rows, in float64: the same number on every trainer."""
    if not partition.weighted or rows.size == 0:
        return float(rows.size)
    low = int(rows.min())
    weights = partition.read(low, int(rows.max()) + 1).column(WEIGHT).to_numpy()
    return float(weights[rows - low].sum(dtype=np.float64))


def read_rows(partition: LocalPartition, rows: NDArray[np.int64]) -> pa.Table:
    """The given rows in the given order; reads only the range that they span."""
    if rows.size == 0:
        return partition.read(0, 0)
    low, high = int(rows.min()), int(rows.max()) + 1
    table = partition.read(low, high)
    if high - low == rows.size and np.array_equal(rows, np.arange(low, high)):
        return table
    return table.take(rows - low)
