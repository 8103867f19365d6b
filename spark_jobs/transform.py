"""The transform of a raw row into a hashed one, as native Spark expressions: no Python runs per row.

The rules are those of docs/formats/ids.md and docs/formats/hashed.md; `persia_core.ids` states the
ids in Python, and tests bind the two together.
"""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

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
from persia_core.data.reasons import (
    BAD_WEIGHT,
    MALFORMED_ROW,
    MISSING_TIME,
    bad_label,
    bad_number,
    bad_time,
    missing_value,
)
from persia_core.data.schema import LABEL, TIME, WEIGHT
from persia_core.ids import MISSING, feature_salt
from spark_jobs.readers import MALFORMED, quoted
from spark_jobs.values import (
    Types,
    bucket,
    canonical,
    cross,
    dense,
    elements,
    finite,
    id_of,
    is_missing,
    number,
    seconds,
    seconds_of_text,
    time_part,
)

REASON = "_reason"  # why a row is rejected; null if it is kept


def transform(frame: Any, config: ModelConfig, keep: Sequence[str] = ()) -> Any:
    """`_reason`, the columns of a hashed partition, and those of `frame` that `keep` names.

    `frame` is one of `spark_jobs.readers.read_raw`. Dense values are null where missing. Raises
    DataInvalid for a column whose type has no meaning for its feature.
    """
    return _Transform(frame, config).apply(frame, keep)


class _Transform:
    def __init__(self, frame: Any, config: ModelConfig) -> None:
        self._config = config
        self._types: Types = {field.name: field.dataType for field in frame.schema.fields}
        self._features = {feature.name: feature for feature in config.features}
        self._time = F.lit(0).cast("bigint")

    def apply(self, frame: Any, keep: Sequence[str]) -> Any:
        dataset = self._config.dataset
        label = self._label()
        rejects = [(F.col(MALFORMED), MALFORMED_ROW), (label.isNull(), bad_label(self._config))]
        columns = [label.cast("float").alias(LABEL)]
        if dataset.weight is not None:
            weight = number(*self._raw(dataset.weight)).cast("float")
            rejects.append((weight.isNull() | ~finite(weight) | (weight < 0), BAD_WEIGHT))
        if dataset.time_column is not None:
            raw, kind, name = self._raw(dataset.time_column)
            if dataset.time_format is None:
                self._time = seconds(raw, kind, name)
            else:
                self._time = seconds_of_text(canonical(raw, kind, name), dataset.time_format)
            rejects.append((is_missing(raw, kind), MISSING_TIME))
            rejects.append((self._time.isNull(), bad_time(self._config)))
        columns.append(self._time.alias(TIME))
        if dataset.weight is not None:
            columns.append(_one_zero(weight).alias(WEIGHT))
        for feature in self._config.features:
            column, reasons = self._feature(feature)
            rejects += reasons
            columns.append(column.alias(feature.name))
        reason = F.coalesce(*(F.when(condition, F.lit(text)) for condition, text in rejects))
        return frame.select(reason.alias(REASON), *columns, *keep)

    def _raw(self, name: str) -> tuple[Column, T.DataType, str]:
        return F.col(quoted(name)), self._types[name], name

    def _given(self, feature: ColumnFeature) -> tuple[Column, T.DataType, str]:
        """The raw column of a feature, null where its text is one of the feature's missing values."""
        raw, kind, name = self._raw(feature.column or feature.name)
        if feature.missing_values and not isinstance(kind, T.ArrayType):
            text = canonical(raw, kind, name)
            if isinstance(feature, DenseFeature | BucketisedFeature):
                text = F.trim(text)
            raw = F.when(text.isin(*feature.missing_values), F.lit(None)).otherwise(raw)
        return raw, kind, name

    def _label(self) -> Column:
        """1.0 or 0.0 as double; null if it is neither."""
        dataset = self._config.dataset
        raw = self._raw(dataset.label)
        if not dataset.positive_labels:
            value = number(*raw)
            return F.when(value.isin(0.0, 1.0), _one_zero(value))
        text = canonical(*raw)
        return F.when(text.isin(*dataset.positive_labels), F.lit(1.0)).when(
            text.isin(*dataset.negative_labels), F.lit(0.0)
        )

    def _feature(self, feature: Feature) -> tuple[Column, list[tuple[Column, str]]]:
        """The column of a feature, and the conditions under which it rejects a row."""
        rejects: list[tuple[Column, str]] = []
        if isinstance(feature, DenseFeature | BucketisedFeature):
            raw, kind, name = self._given(feature)
            missing = is_missing(raw, kind)
            value = number(raw, kind, name)
            if isinstance(feature, DenseFeature):
                value = dense(feature, value)
            rejects.append((~missing & (value.isNull() | ~finite(value)), bad_number(feature)))
            if feature.missing == "reject":
                rejects.append((missing, missing_value(feature)))
            if isinstance(feature, DenseFeature):
                return value, rejects
        elif isinstance(feature, MultiCategoricalFeature):
            bag = self._bag(feature)
            if feature.missing == "reject":
                rejects.append((F.size(bag) == 0, missing_value(feature)))
            return bag, rejects
        text = self._text(feature)
        absent = text.isNull()
        if isinstance(feature, CrossFeature):
            members = [self._text(self._features[name]) for name in feature.of]
            absent = members[0].isNull() | members[1].isNull()
            text = cross(*members)
            if feature.missing == "zero":
                text = F.when(~absent, text)
        missing_rule = getattr(feature, "missing", None)
        if missing_rule == "own_id":
            text = F.coalesce(text, F.lit(MISSING))
        if missing_rule == "reject" and not isinstance(feature, BucketisedFeature):
            rejects.append((absent, missing_value(feature)))
        return self._id(feature, text), rejects

    def _text(self, feature: Feature) -> Column:
        """The canonical string that becomes an id; null if the value is missing."""
        if isinstance(feature, TimestampFeature):
            return time_part(self._time, feature.part).cast("string")
        if isinstance(feature, BucketisedFeature):
            return bucket(number(*self._given(feature)), feature.boundaries).cast("string")
        if isinstance(feature, CategoricalFeature):
            return canonical(*self._given(feature))
        return F.lit(None).cast("string")

    def _bag(self, feature: MultiCategoricalFeature) -> Column:
        raw = self._raw(feature.column or feature.name)
        texts = elements(feature, *raw, json=self._config.dataset.format == "jsonl")
        if feature.missing_values:
            texts = F.filter(texts, lambda text: ~text.isin(*feature.missing_values))
        texts = F.slice(texts, 1, feature.max_length)
        ids = F.transform(texts, lambda text: self._id(feature, text))
        return F.coalesce(ids, F.array().cast("array<bigint>"))

    def _id(self, feature: IdFeature, text: Column) -> Column:
        dataset = self._config.dataset
        table = self._config.table(feature.table)
        return id_of(text, feature_salt(dataset.salt, table.name), table.prefix, dataset.prefix_bits)


def _one_zero(value: Column) -> Column:
    """-0.0 and 0.0 compare equal, so rows that differ by it alone would have no defined order."""
    return F.when(value == 0.0, F.lit(0.0).cast("float")).otherwise(value)
