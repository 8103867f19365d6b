"""What a hashed partition's manifest says about its columns, gathered while the rows pass by."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from persia_core.config import ModelConfig
from persia_core.config.derived_features import BucketisedFeature, CrossFeature
from persia_core.config.features import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    IdFeature,
    MultiCategoricalFeature,
)
from persia_core.data.distinct import DistinctCounter
from persia_core.data.schema import LABEL
from persia_core.ids import MISSING, RARE, feature_id, feature_salt


class PartitionStatistics:
    """Label rate, and per feature missing, distinct (about), min, max and mean (dense).

    Sums run in the order of the rows, so equal partitions have equal statistics to the last bit.
    """

    def __init__(self, config: ModelConfig, missing_dense: dict[str, int]) -> None:
        """`missing_dense`: dense feature -> rows without a value, which the rows no longer show."""
        self._rows = 0
        self._positive = 0
        self._features = {
            feature.name: _column(config, feature, missing_dense) for feature in config.features
        }
        known = {feature.name: feature for feature in config.features}
        self._crosses = {
            cross.name: [(name, _missing_id(config, known[name])) for name in cross.of]
            for cross in config.features
            if isinstance(cross, CrossFeature)
        }
        self._crosses_missing = dict.fromkeys(self._crosses, 0)

    def add(self, table: pa.Table) -> None:
        """Take in the next rows."""
        self._rows += table.num_rows
        self._positive += int(pc.sum(table.column(LABEL)).as_py() or 0)
        for name, column in self._features.items():
            column.add(table.column(name))
        for name, members in self._crosses.items():
            self._crosses_missing[name] += _rows_without(table, members)

    def label_rate(self) -> float | None:
        """Share of rows whose label is 1; None without rows."""
        return self._positive / self._rows if self._rows else None

    def features(self) -> dict[str, dict[str, Any]]:
        """Feature -> its statistics, for JSON."""
        found = {name: column.summary(self._rows) for name, column in self._features.items()}
        for name, missing in self._crosses_missing.items():
            found[name]["missing"] = missing
        return found


def _rows_without(table: pa.Table, members: list[tuple[str, int | None]]) -> int:
    """Rows in which a member, (feature, id of its missing value if it has one), has no value."""
    absent: Any = False
    for name, missing_id in members:
        column = table.column(name)
        empty = pc.is_null(column)
        if missing_id is not None:
            empty = pc.or_(empty, pc.fill_null(pc.equal(column, missing_id), False))
        absent = pc.or_(empty, absent)
    return int(pc.sum(absent).as_py() or 0)


def expected_collisions(distinct: int, hash_bits: int) -> float:
    """Pairs of values that share an id, on average, if so many are hashed to so many bits; three digits.

    The birthday bound: n (n - 1) / 2 pairs, each with probability 2^-bits.
    """
    return float(f"{distinct * (distinct - 1) / 2 / 2.0**hash_bits:.3g}")


class _IdColumn:
    """`missing` is the number of missing values; of a bag, the number of empty ones."""

    def __init__(self, missing_id: int | None, rare_id: int | None, bags: bool, hash_bits: int) -> None:
        self._hash_bits = hash_bits
        self._rare_id = rare_id
        self._rare = 0
        self._missing_id = missing_id
        self._bags = bags
        self._missing = 0
        self._distinct = DistinctCounter()

    def add(self, column: pa.ChunkedArray) -> None:
        if self._bags:
            self._missing += int(pc.sum(pc.equal(pc.list_value_length(column), 0)).as_py() or 0)
            column = pc.list_flatten(column)
        self._missing += column.null_count
        ids = column.drop_null().to_numpy()
        if self._missing_id is not None:
            self._missing += int(np.count_nonzero(ids == self._missing_id))
        if self._rare_id is not None:
            self._rare += int(np.count_nonzero(ids == self._rare_id))
        self._distinct.add(ids.view(np.uint64))

    def summary(self, rows: int) -> dict[str, Any]:
        del rows
        distinct = self._distinct.estimate
        collisions = expected_collisions(distinct, self._hash_bits)
        rare = {} if self._rare_id is None else {"rare": self._rare}
        return {"missing": self._missing, "distinct": distinct, "expected_collisions": collisions, **rare}


class _DenseColumn:
    def __init__(self, missing: int) -> None:
        self._missing = missing
        self._distinct = DistinctCounter()
        self._low, self._high, self._sum = np.inf, -np.inf, 0.0

    def add(self, column: pa.ChunkedArray) -> None:
        values = column.to_numpy()
        if not len(values):
            return
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        self._sum += float(values.sum(dtype=np.float64))
        self._distinct.add(np.ascontiguousarray(values).view(np.uint32).astype(np.uint64))

    def summary(self, rows: int) -> dict[str, Any]:
        figures = {"min": self._low, "max": self._high, "mean": self._sum / rows} if rows else {}
        return {"missing": self._missing, "distinct": self._distinct.estimate, **figures}


def _column(config: ModelConfig, feature: Feature, missing_dense: dict[str, int]) -> _IdColumn | _DenseColumn:
    if isinstance(feature, DenseFeature):
        return _DenseColumn(missing_dense[feature.name])
    bags = isinstance(feature, MultiCategoricalFeature)
    rare_id = _signed_id(config, feature, RARE) if getattr(feature, "min_count", 1) > 1 else None
    bits = 64 - config.dataset.prefix_bits
    return _IdColumn(_missing_id(config, feature), rare_id, bags, bits)


def _missing_id(config: ModelConfig, feature: Feature) -> int | None:
    """The id, as the int64 with its bits, of the missing value; None if it has none."""
    if not isinstance(feature, CategoricalFeature | BucketisedFeature) or feature.missing != "own_id":
        return None
    return _signed_id(config, feature, MISSING)


def _signed_id(config: ModelConfig, feature: IdFeature, text: str) -> int:
    salt = feature_salt(config.dataset.salt, feature.table)
    prefix = config.table(feature.table).prefix
    unsigned = feature_id(prefix, config.dataset.prefix_bits, salt, text)
    return int(np.uint64(unsigned).astype(np.int64))
