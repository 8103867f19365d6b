"""Raw rows to hashed rows in Python, one by one: what serving does to a request, and a check of Spark.

The rules are those of docs/formats/ids.md and docs/formats/hashed.md, as in `spark_jobs/transform.py`.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from persia_core.config import ModelConfig
from persia_core.config.derived_features import BucketisedFeature, CrossFeature
from persia_core.config.features import (
    CategoricalFeature,
    ColumnFeature,
    DenseFeature,
    Feature,
    IdFeature,
    MultiCategoricalFeature,
    TimestampFeature,
)
from persia_core.config.time_format import parse_time
from persia_core.data.rare import Known, fold_unknown
from persia_core.data.reasons import (
    BAD_WEIGHT,
    MISSING_TIME,
    bad_label,
    bad_number,
    bad_time,
    missing_value,
)
from persia_core.data.schema import LABEL, WEIGHT, hashed_columns
from persia_core.ids import MISSING, canonical, cross, feature_id, feature_salt

RawRow = Mapping[str, Any]

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800


class RowRejected(Exception):
    """The row cannot be kept; the text is one of `persia_core.data.reasons.reasons`."""


@dataclass(frozen=True)
class HashedRows:
    """`table`: the kept rows in the order given, as in a hashed partition. `rejected`: (position, reason)."""

    table: pa.Table
    rejected: list[tuple[int, str]]


def hash_rows(
    config: ModelConfig, rows: Sequence[RawRow], *, labelled: bool = True, known: Known | None = None
) -> HashedRows:
    """Hash raw rows: column name -> str, bool, int, float, Decimal, NumPy scalar, list of these, or None.

    Values from text files are given as their text, times of typed files as int, float or datetime. A
    column that is not in a row is missing. With `labelled=False` (serving), label and weight are neither
    read nor in the result. With `known`, as `ServingModel.known` gives it, values that the model has no row
    for become the rare value where a feature has a min_count (see `fold_unknown`). Raises TypeError for a
    value that has no canonical string.
    """
    transform = _RowTransform(config, labelled)
    columns = {
        name: kind
        for name, kind in hashed_columns(config).items()
        if labelled or name not in (LABEL, _weight_name(config))
    }
    kept: list[list[Any]] = []
    rejected = []
    for position, row in enumerate(rows):
        try:
            kept.append(transform(row))
        except RowRejected as reason:
            rejected.append((position, str(reason)))
    values = zip(*kept, strict=True) if kept else [()] * len(columns)
    arrays = [pa.array(list(v), kind) for v, kind in zip(values, columns.values(), strict=True)]
    table = pa.table(arrays, names=list(columns))
    return HashedRows(table if known is None else fold_unknown(config, table, known), rejected)


def _weight_name(config: ModelConfig) -> str | None:
    return None if config.dataset.weight is None else WEIGHT


class _RowTransform:
    def __init__(self, config: ModelConfig, labelled: bool) -> None:
        self._config = config
        self._labelled = labelled
        self._missing_values = {f.name: frozenset(getattr(f, "missing_values", ())) for f in config.features}
        self._features = {feature.name: feature for feature in config.features}
        self._id: dict[str, Callable[[str], int]] = {f.name: self._hasher(f) for f in config.id_features}

    def __call__(self, row: RawRow) -> list[Any]:
        """The values of one hashed row, in order of its columns; RowRejected."""
        dataset = self._config.dataset
        values: list[Any] = []
        if self._labelled:
            values.append(self._label(row.get(dataset.label)))
        weight = None
        if self._labelled and dataset.weight is not None:
            weight = self._weight(row.get(dataset.weight))
        time = self._time(row)
        values.append(time)
        if weight is not None:
            values.append(weight)
        return values + [self._feature(feature, row, time) for feature in self._config.features]

    def _hasher(self, feature: IdFeature) -> Callable[[str], int]:
        table = self._config.table(feature.table)
        bits = self._config.dataset.prefix_bits
        salt = feature_salt(self._config.dataset.salt, table.name)

        def signed_id(text: str) -> int:
            number = feature_id(table.prefix, bits, salt, text)
            return number - (1 << 64) if number >= 1 << 63 else number

        return signed_id

    def _label(self, raw: Any) -> float:
        dataset = self._config.dataset
        if dataset.positive_labels:
            text = canonical(raw)
            if text in dataset.positive_labels:
                return 1.0
            if text in dataset.negative_labels:
                return 0.0
        elif (label := _number(raw)) in (0.0, 1.0):
            return label + 0.0
        raise RowRejected(bad_label(self._config))

    def _weight(self, raw: Any) -> float:
        value = _number(raw)
        weight = math.nan if value is None else _float32(value)
        if not (math.isfinite(weight) and weight >= 0):
            raise RowRejected(BAD_WEIGHT)
        return weight

    def _time(self, row: RawRow) -> int:
        dataset = self._config.dataset
        if dataset.time_column is None:
            return 0
        raw = row.get(dataset.time_column)
        if _is_missing(raw):
            raise RowRejected(MISSING_TIME)
        if dataset.time_format is None:
            time = _seconds(raw)
        else:
            text = canonical(raw)
            time = None if text is None else parse_time(text, dataset.time_format)
        if time is None:
            raise RowRejected(bad_time(self._config))
        return time

    def _feature(self, feature: Feature, row: RawRow, time: int) -> Any:
        if isinstance(feature, DenseFeature):
            return self._dense(feature, row)
        if isinstance(feature, MultiCategoricalFeature):
            return self._bag(feature, row)
        text = self._text(feature, row, time)
        missing = getattr(feature, "missing", None)
        if isinstance(feature, CrossFeature):
            members = [self._member(name, row, time) for name in feature.of]
            text = None if missing != "own_id" and None in members else cross(members[0], members[1])
        if text is None:
            if missing == "reject":
                raise RowRejected(missing_value(feature))
            if missing == "zero":
                return None
            text = MISSING
        return self._id[feature.name](text)

    def _member(self, name: str, row: RawRow, time: int) -> str | None:
        try:
            return self._text(self._features[name], row, time)
        except RowRejected:  # the member itself will say so, in its turn
            return None

    def _text(self, feature: Feature, row: RawRow, time: int) -> str | None:
        """The canonical string that becomes the id; None if the value is missing."""
        if isinstance(feature, TimestampFeature):
            part = time // 3600 % 24 if feature.part == "hour" else (time // 86_400 + 3) % 7
            return str(part)
        if isinstance(feature, BucketisedFeature):
            number = self._given_number(feature, row)
            return None if number is None else str(bisect_right(feature.boundaries, number))
        if isinstance(feature, CategoricalFeature):
            return self._given(feature, canonical(row.get(feature.column or feature.name)))
        return None

    def _given(self, feature: Feature, text: str | None) -> str | None:
        return None if text in self._missing_values[feature.name] else text

    def _given_number(self, feature: ColumnFeature, row: RawRow) -> float | None:
        """The raw number; None if it is missing. RowRejected if it is none."""
        raw = row.get(feature.column or feature.name)
        if _is_missing(raw):
            return None
        values = self._missing_values[feature.name]
        if values and (raw.strip(" ") if isinstance(raw, str) else canonical(raw)) in values:
            return None
        number = _number(raw)
        if number is None:
            raise RowRejected(bad_number(feature))
        return number

    def _dense(self, feature: DenseFeature, row: RawRow) -> float:
        value = self._given_number(feature, row)
        if value is None:
            if feature.missing == "reject":
                raise RowRejected(missing_value(feature))
            return _float32(feature.missing)
        if feature.transform == "log1p":
            value = math.log1p(value) if value > -1.0 else math.nan
        value = (value - feature.mean) / feature.std
        if feature.clip is not None and not math.isnan(value):
            value = min(max(value, feature.clip[0]), feature.clip[1])
        value = _float32(value)
        if not math.isfinite(value):
            raise RowRejected(bad_number(feature))
        return value + 0.0  # -0.0 becomes 0.0

    def _bag(self, feature: MultiCategoricalFeature, row: RawRow) -> list[int]:
        raw = row.get(feature.column or feature.name)
        values = raw.split(feature.delimiter) if isinstance(raw, str) else () if raw is None else raw
        texts = [self._given(feature, canonical(value)) for value in values]
        bag = [text for text in texts if text is not None]
        bag = bag[: feature.max_length] if feature.keep == "first" else bag[-feature.max_length :]
        if not bag and feature.missing == "reject":
            raise RowRejected(missing_value(feature))
        return [self._id[feature.name](text) for text in bag]


def _is_missing(raw: Any) -> bool:
    if isinstance(raw, str):
        return raw.strip(" ").lower() in ("", "nan")
    return raw is None or (isinstance(raw, float | np.floating) and math.isnan(raw))


def _number(raw: Any) -> float | None:
    """A raw value as float64; None if it is missing, no decimal number or not finite."""
    if isinstance(raw, str):
        text = raw.strip(" ")
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
    elif raw is None:
        return None
    elif isinstance(raw, bool | int | float | Decimal | np.generic):
        value = float(raw)
    else:
        raise TypeError(f"a value of type {type(raw).__name__} is no number")
    return value if math.isfinite(value) else None


def _seconds(raw: Any) -> int | None:
    if isinstance(raw, datetime):
        moment = raw if raw.tzinfo is not None else raw.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(seconds=1)
    if isinstance(raw, date):
        raise TypeError("a date is no time: give Unix seconds or a datetime")
    number = _number(raw)
    if number is None or not _YEAR_1 <= math.floor(number) < _YEAR_10000:
        return None
    return math.floor(number)


def _float32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))
