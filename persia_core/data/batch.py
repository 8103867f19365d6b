"""What a trainer computes on: one batch as NumPy arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persia_core.config import ModelConfig
from persia_core.config.features import MultiCategoricalFeature
from persia_core.data.schema import WEIGHT
from persia_core.errors import DataInvalid


@dataclass(frozen=True)
class HashedBatch:
    """n samples. All arrays own their memory, are C-contiguous and writable.

    labels: float32 [n]. dense: float32 [n, D], D the number of dense features, in order of the
    configuration. ids[f]: uint64, flat, of id feature f in order of `config.id_features`; offsets[f]:
    int64 [n + 1], the bag of sample i is ids[f][offsets[f][i]:offsets[f][i + 1]]. weights: float32 [n],
    finite and at least 0; None if samples have none, which is as if all were 1.
    """

    labels: NDArray[np.float32]
    dense: NDArray[np.float32]
    ids: list[NDArray[np.uint64]]
    offsets: list[NDArray[np.int64]]
    weights: NDArray[np.float32] | None = None

    @property
    def rows(self) -> int:
        return int(self.labels.shape[0])

    @property
    def total_weight(self) -> float:
        """The sum of the weights."""
        return float(self.rows if self.weights is None else self.weights.sum(dtype=np.float64))


def to_arrays(config: ModelConfig, table: pa.Table) -> HashedBatch:
    """The rows of a hashed table as arrays; a null id is an empty bag.

    Raises DataInvalid for a null inside a bag. Null labels and dense values come out as NaN.
    """
    rows = table.num_rows
    dense = np.empty((rows, len(config.dense_features)), dtype=np.float32)
    for position, feature in enumerate(config.dense_features):
        dense[:, position] = table.column(feature.name).to_numpy()
    ids: list[NDArray[np.uint64]] = []
    offsets: list[NDArray[np.int64]] = []
    for id_feature in config.id_features:
        column = _one_array(table.column(id_feature.name))
        if isinstance(id_feature, MultiCategoricalFeature):
            flat, bounds = _bags(column, id_feature.name)
        else:
            flat, bounds = _singles(column)
        ids.append(flat)
        offsets.append(bounds)
    labels = np.array(table.column("label").to_numpy(), dtype=np.float32)
    weights = None
    if config.dataset.weight is not None:
        weights = np.array(table.column(WEIGHT).to_numpy(), dtype=np.float32)
    return HashedBatch(labels, dense, ids, offsets, weights)


def _one_array(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _unsigned(array: Any) -> NDArray[np.uint64]:
    return np.array(array.to_numpy(zero_copy_only=True), dtype=np.int64).view(np.uint64)


def _singles(column: Any) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    if not column.null_count:
        return _unsigned(column), np.arange(len(column) + 1, dtype=np.int64)
    bounds = np.zeros(len(column) + 1, dtype=np.int64)
    np.cumsum(column.is_valid().to_numpy(zero_copy_only=False), out=bounds[1:])
    return _unsigned(column.drop_null()), bounds


def _bags(column: Any, name: str) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    flat = column.flatten()  # of these rows only, without null lists
    if flat.null_count:
        raise DataInvalid(f"feature {name}: a bag holds a null id", "hash the partition again")
    bounds = np.zeros(len(column) + 1, dtype=np.int64)
    if column.null_count:
        column = column.fill_null([])
    np.cumsum(column.value_lengths().to_numpy(zero_copy_only=True), out=bounds[1:])
    return _unsigned(flat), bounds
