"""The transform of a raw row into a hashed one, as native Spark expressions: no Python runs per row.

The rules are those of docs/formats/ids.md and docs/formats/hashed.md; `persia_core.ids` states the
ids in Python, and tests bind the two together.
"""

from collections.abc import Sequence
from functools import partial
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
    clipped,
    cross,
    elements,
    finite,
    finite_only,
    id_of,
    is_missing,
    is_time,
    number,
    positive_zero,
    scaled,
    seconds_of_number,
    seconds_of_text,
    seconds_of_time,
    shortened,
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
    """Builds the columns in steps, each a projection of its own, so that no value is computed twice.

    An expression that stood in several others would be repeated in each; nested, that grows beyond what
    Spark can compile.
    """

    def __init__(self, frame: Any, config: ModelConfig) -> None:
        self._config = config
        self._types: Types = {field.name: field.dataType for field in frame.schema.fields}
        self._features = {feature.name: feature for feature in config.features}
        dataset = config.dataset
        self._numbers: dict[str, tuple[Column, T.DataType, str]] = {
            feature.name: self._given(feature)
            for feature in config.features
            if isinstance(feature, DenseFeature | BucketisedFeature)
        }
        if not dataset.positive_labels:
            self._numbers[LABEL] = self._raw(dataset.label)
        if dataset.weight is not None:
            self._numbers[WEIGHT] = self._raw(dataset.weight)
        if dataset.time_column is not None and dataset.time_format is None:
            self._numbers[TIME] = self._raw(dataset.time_column)

    def apply(self, frame: Any, keep: Sequence[str]) -> Any:
        numbers = {name: number(*raw) for name, raw in self._numbers.items() if not is_time(raw[1])}
        frame = frame.withColumns({_of("number", name): value for name, value in numbers.items()})
        frame = frame.withColumns({_of("finite", name): finite_only(_at("number", name)) for name in numbers})
        frame = frame.withColumns(
            {
                **{_of("missing", name): is_missing(raw[0], raw[1]) for name, raw in self._numbers.items()},
                **{
                    _of("scaled", f.name): scaled(f, _at("finite", f.name))
                    for f in self._config.dense_features
                },
                _of("value", TIME): self._time(),
                _of("value", LABEL): self._label(),
                **self._bags(),
            }
        )
        frame = frame.withColumns(
            {
                **{
                    _of("value", f.name): clipped(f, _at("scaled", f.name))
                    for f in self._config.dense_features
                },
                **{_of("text", name): text for name, text in self._texts().items()},
            }
        )
        crosses = [feature for feature in self._config.features if isinstance(feature, CrossFeature)]
        frame = frame.withColumns({_of("text", cross.name): _pair(cross) for cross in crosses})
        reason = F.coalesce(*(F.when(condition, F.lit(text)) for condition, text in self._rejects()))
        return frame.select(reason.alias(REASON), *self._columns(), *keep)

    def _raw(self, name: str) -> tuple[Column, T.DataType, str]:
        return F.col(quoted(name)), self._types[name], name

    def _given(self, feature: ColumnFeature) -> tuple[Column, T.DataType, str]:
        """The raw column of a feature, null where its text is one of the feature's missing values."""
        raw, kind, name = self._raw(feature.column or feature.name)
        if feature.missing_values:
            text = canonical(raw, kind, name)
            if isinstance(feature, DenseFeature | BucketisedFeature):
                text = F.trim(text)
            raw = F.when(text.isin(*feature.missing_values), F.lit(None)).otherwise(raw)
        return raw, kind, name

    def _time(self) -> Column:
        """Unix seconds (bigint); null where they cannot be told."""
        dataset = self._config.dataset
        if dataset.time_column is None:
            return F.lit(0).cast("bigint")
        raw, kind, name = self._raw(dataset.time_column)
        if dataset.time_format is not None:
            return seconds_of_text(canonical(raw, kind, name), dataset.time_format)
        return seconds_of_time(raw, kind) if is_time(kind) else seconds_of_number(_at("finite", TIME))

    def _label(self) -> Column:
        """1.0 or 0.0 as float; null if it is neither."""
        dataset = self._config.dataset
        if not dataset.positive_labels:
            value = _at("finite", LABEL)
            return F.when(value.isin(0.0, 1.0), positive_zero(value.cast("float")))
        text = canonical(*self._raw(dataset.label))
        label = F.when(text.isin(*dataset.positive_labels), F.lit(1.0))
        return label.when(text.isin(*dataset.negative_labels), F.lit(0.0)).cast("float")

    def _bags(self) -> dict[str, Column]:
        bags = {}
        for feature in self._config.features:
            if isinstance(feature, MultiCategoricalFeature):
                raw = self._raw(feature.column or feature.name)
                texts = elements(feature, *raw, json=self._config.dataset.format == "jsonl")
                texts = shortened(feature, texts)
                bags[_of("texts", feature.name)] = F.coalesce(texts, F.array().cast("array<string>"))
        return bags

    def _texts(self) -> dict[str, Column]:
        """Of each feature that is neither dense, a bag nor a cross: its canonical string, null if missing."""
        texts = {}
        for feature in self._config.features:
            if isinstance(feature, TimestampFeature):
                texts[feature.name] = time_part(_at("value", TIME), feature.part).cast("string")
            elif isinstance(feature, BucketisedFeature):
                ranges = bucket(_at("finite", feature.name), feature.boundaries)
                texts[feature.name] = ranges.cast("string")
            elif isinstance(feature, CategoricalFeature):
                texts[feature.name] = canonical(*self._given(feature))
        return texts

    def _rejects(self) -> list[tuple[Column, str]]:
        """Conditions and the reasons that they are, in the order of `persia_core.data.reasons.reasons`."""
        config = self._config
        found = [(F.col(MALFORMED), MALFORMED_ROW), (_at("value", LABEL).isNull(), bad_label(config))]
        if config.dataset.weight is not None:
            weight = _at("finite", WEIGHT).cast("float")
            found.append((weight.isNull() | ~finite(weight) | (weight < 0), BAD_WEIGHT))
        if config.dataset.time_column is not None:
            raw, kind, _ = self._raw(config.dataset.time_column)
            found.append((is_missing(raw, kind), MISSING_TIME))
            found.append((_at("value", TIME).isNull(), bad_time(config)))
        for feature in config.features:
            rejecting = getattr(feature, "missing", None) == "reject"
            if isinstance(feature, DenseFeature | BucketisedFeature):
                missing = _at("missing", feature.name)
                dense = isinstance(feature, DenseFeature)
                value = _at("value" if dense else "finite", feature.name)
                found.append((~missing & (value.isNull() | ~finite(value)), bad_number(feature)))
            elif isinstance(feature, MultiCategoricalFeature):
                missing = F.size(_at("texts", feature.name)) == 0
            elif isinstance(feature, CrossFeature):
                missing = _member_missing(feature)
            else:
                missing = _at("text", feature.name).isNull()
            if rejecting:
                found.append((missing, missing_value(feature)))
        return found

    def _columns(self) -> list[Column]:
        columns = [_at("value", LABEL).alias(LABEL), _at("value", TIME).alias(TIME)]
        if self._config.dataset.weight is not None:
            columns.append(positive_zero(_at("finite", WEIGHT).cast("float")).alias(WEIGHT))
        for feature in self._config.features:
            if isinstance(feature, DenseFeature):
                column = _at("value", feature.name)
            elif isinstance(feature, MultiCategoricalFeature):
                column = F.transform(_at("texts", feature.name), partial(self._id, feature))
            else:
                text = _at("text", feature.name)
                if getattr(feature, "missing", None) == "own_id":
                    text = F.coalesce(text, F.lit(MISSING))
                column = self._id(feature, text)
            columns.append(column.alias(feature.name))
        return columns

    def _id(self, feature: IdFeature, text: Column) -> Column:
        dataset = self._config.dataset
        table = self._config.table(feature.table)
        return id_of(text, feature_salt(dataset.salt, table.name), table.prefix, dataset.prefix_bits)


def text_column(feature: IdFeature) -> str:
    """The column with the canonical string of a feature of one id, for `keep` of `transform`."""
    return _of("text", feature.name)


def _of(step: str, name: str) -> str:
    return f"_{step} {name}"


def _at(step: str, name: str) -> Column:
    return F.col(quoted(_of(step, name)))


def _member_missing(feature: CrossFeature) -> Column:
    first, second = (_at("text", name) for name in feature.of)
    return first.isNull() | second.isNull()


def _pair(feature: CrossFeature) -> Column:
    first, second = (_at("text", name) for name in feature.of)
    joined = cross(first, second)
    return joined if feature.missing == "own_id" else F.when(~_member_missing(feature), joined)
