"""Metrics of the rows that share a value of a feature: where a model is better or worse than on the whole."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from persia_core.config import ModelConfig
from persia_core.config.features import IdFeature, TimestampFeature
from persia_core.data.partition import LocalPartition
from persia_core.ids import MISSING, RARE, feature_id, feature_salt
from persia_core.training.metrics import summary

NO_ID = "none"  # what a row without an id is called
OWN_ID = "missing"  # the id that null and empty values have
RARE_ID = "rare"  # the id that a feature's rare values share
_PARTS = {"hour": 24, "weekday": 7}

Slices = dict[str, list[dict[str, Any]]]


def slices_of(
    config: ModelConfig,
    partition: LocalPartition,
    labels: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    weights: NDArray[np.float32] | None = None,
) -> Slices:
    """For each of `training.metric_slices` its most frequent values, each with its `summary`.

    At most `training.metric_slice_values` per feature, the most frequent first, then by id. A value of a
    timestamp is named by its number, any other by its id, 16 hexadecimal digits: names of values are not
    kept when they are hashed.
    """
    wanted = set(config.training.metric_slices)
    return {
        feature.name: _slices(config, feature, partition, labels, probabilities, weights)
        for feature in config.id_features
        if feature.name in wanted
    }


def _slices(
    config: ModelConfig,
    feature: IdFeature,
    partition: LocalPartition,
    labels: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    weights: NDArray[np.float32] | None,
) -> list[dict[str, Any]]:
    column = _column(partition, feature.name)
    known, present = pc.is_valid(column).to_numpy(zero_copy_only=False), column.fill_null(0)
    ids = present.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    names = _names(config, feature)
    values, counts = np.unique(ids[known], return_counts=True)
    found = [
        (int(count), names.get(int(value), f"{int(value):016x}"), known & (ids == value))
        for value, count in _most_frequent(values, counts, config.training.metric_slice_values)
    ]
    if not known.all():
        found.append((int((~known).sum()), NO_ID, ~known))
    found.sort(key=lambda each: -each[0])
    return [
        {
            "value": name,
            **summary(labels[rows], probabilities[rows], None if weights is None else weights[rows]),
        }
        for _, name, rows in found[: config.training.metric_slice_values]
    ]


def _most_frequent(
    values: NDArray[np.uint64], counts: NDArray[np.int64], most: int
) -> list[tuple[np.uint64, np.int64]]:
    order = np.lexsort((values, -counts))[:most]
    return list(zip(values[order], counts[order], strict=True))


def _column(partition: LocalPartition, name: str) -> Any:
    """The column `name` of all rows."""
    pieces = [
        partition.read(low, min(low + _ROWS, partition.rows)).column(name)
        for low in range(0, partition.rows, _ROWS)
    ]
    return pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks])


_ROWS = 1 << 18  # that are read at a time


def _names(config: ModelConfig, feature: IdFeature) -> dict[int, str]:
    """The names of ids that are known beforehand."""
    table = config.table(feature.table)
    salt = feature_salt(config.dataset.salt, feature.table)
    named = {OWN_ID: MISSING, RARE_ID: RARE}
    if isinstance(feature, TimestampFeature):
        named = {str(number): str(number) for number in range(_PARTS[feature.part])}
    return {
        feature_id(table.prefix, config.dataset.prefix_bits, salt, value): name
        for name, value in named.items()
    }
