"""The transform of a raw row into a hashed one, as native Spark expressions: no Python runs per row.

The rules are those of docs/formats/ids.md and docs/formats/hashed.md; `persia_core.ids` states the
ids in Python, and tests bind the two together.
"""

import re
from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from persia_core.config import ModelConfig
from persia_core.config.features import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    MultiCategoricalFeature,
    TimestampFeature,
)
from persia_core.data.schema import LABEL, TIME
from persia_core.errors import DataInvalid
from persia_core.ids import MISSING, feature_salt
from spark_jobs.readers import MALFORMED, quoted

REASON = "_reason"  # why a row is rejected; null if it is kept

MALFORMED_ROW = "malformed row"
BAD_LABEL = "label: neither 0 nor 1"
MISSING_TIME = "time: missing"
BAD_TIME = "time: not Unix seconds"

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800
_EXACT_INTEGERS = float(1 << 53)
_FLOATS = (T.FloatType, T.DoubleType)
_SPARK_TEXT = (T.BooleanType, T.ByteType, T.ShortType, T.IntegerType, T.LongType)


def bad_dense(feature: DenseFeature) -> str:
    """The reason under which rows with a bad value of `feature` are rejected."""
    return f"{feature.name}: not a finite number"


def reasons(config: ModelConfig) -> list[str]:
    """Every reason for which a row may be rejected; the first that holds counts."""
    times = [MISSING_TIME, BAD_TIME] if config.dataset.time_column is not None else []
    return [MALFORMED_ROW, BAD_LABEL, *times, *(bad_dense(feature) for feature in config.dense_features)]


def transform(frame: Any, config: ModelConfig, keep: Sequence[str] = ()) -> Any:
    """`_reason`, the columns of a hashed partition, and those of `frame` that `keep` names.

    `frame` is one of `spark_jobs.readers.read_raw`. Dense values are null where missing. Raises
    DataInvalid for a column whose type has no meaning for its feature.
    """
    types = {field.name: field.dataType for field in frame.schema.fields}
    dataset = config.dataset
    label = number(dataset.label, types[dataset.label])
    time = F.lit(0).cast("bigint")
    rejects = [(F.col(MALFORMED), MALFORMED_ROW), (~label.isin(0.0, 1.0) | label.isNull(), BAD_LABEL)]
    if dataset.time_column is not None:
        time = seconds(dataset.time_column, types[dataset.time_column])
        rejects.append((_is_missing(dataset.time_column, types[dataset.time_column]), MISSING_TIME))
        rejects.append((time.isNull(), BAD_TIME))
    columns = [label.cast("float").alias(LABEL), time.alias(TIME)]
    for feature in config.features:
        column = _feature(feature, config, types, time)
        if isinstance(feature, DenseFeature):
            raw = feature.column or feature.name
            bad = ~_is_missing(raw, types[raw]) & (column.isNull() | ~_finite(column))
            rejects.append((bad, bad_dense(feature)))
        columns.append(column.alias(feature.name))
    reason = F.coalesce(*(F.when(condition, F.lit(text)) for condition, text in rejects))
    return frame.select(reason.alias(REASON), *columns, *keep)


def _feature(feature: Feature, config: ModelConfig, types: dict[str, T.DataType], time: Column) -> Column:
    if isinstance(feature, DenseFeature):
        raw = feature.column or feature.name
        return dense(feature, number(raw, types[raw]))
    table = config.table(feature.table)
    bits = config.dataset.prefix_bits
    salt = feature_salt(config.dataset.salt, table.name)
    if isinstance(feature, TimestampFeature):
        return id_of(time_part(time, feature.part).cast("string"), salt, table.prefix, bits)
    raw = feature.column or feature.name
    if isinstance(feature, CategoricalFeature):
        value = canonical(F.col(quoted(raw)), types[raw], raw)
        if feature.missing == "own_id":
            value = F.coalesce(value, F.lit(MISSING))
        return id_of(value, salt, table.prefix, bits)
    values = bag(feature, raw, types[raw], json=config.dataset.format == "jsonl")
    values = F.slice(values, 1, feature.max_length)
    return F.coalesce(
        F.transform(values, lambda value: id_of(value, salt, table.prefix, bits)),
        F.array().cast("array<bigint>"),
    )


def id_of(value: Column, salt: str, prefix: int, prefix_bits: int) -> Column:
    """The id of a canonical string as the bigint with the same 64 bits; null if the string is null."""
    # Spark's xxhash64 of one string is XXH64 of its UTF-8 bytes with seed 42, except that it gives
    # the seed for null.
    hashed = F.shiftrightunsigned(F.xxhash64(F.concat(F.lit(salt), value)), prefix_bits)
    base = prefix << (64 - prefix_bits)
    signed = base - (1 << 64) if base >= 1 << 63 else base
    return F.when(value.isNotNull(), F.lit(signed).cast("bigint").bitwiseOR(hashed))


def canonical(value: Column, kind: T.DataType, name: str) -> Column:
    """The canonical string of a value, null if it is missing: `persia_core.ids.canonical` in Spark."""
    if isinstance(kind, T.StringType):
        return F.nullif(value, F.lit(""))
    if isinstance(kind, _SPARK_TEXT) or _whole_decimal(kind):
        return value.cast("string")
    if isinstance(kind, _FLOATS):
        return _canonical_float(value.cast("double"))
    raise DataInvalid(
        f"column {name!r} is of type {kind.simpleString()}, whose values have no canonical string",
        "deliver it as string, integer, boolean or float",
    )


def _canonical_float(value: Column) -> Column:
    whole = (F.abs(value) <= _EXACT_INTEGERS) & (value == F.rint(value))
    hexadecimal = F.regexp_replace(F.format_string("%a", value), r"\.0p", "p")
    return (
        F.when(value.isNull() | F.isnan(value), F.lit(None))
        .when(F.abs(value) == float("inf"), F.when(value > 0, F.lit("inf")).otherwise(F.lit("-inf")))
        .when(whole, F.when(whole, value).cast("bigint").cast("string"))
        .otherwise(hexadecimal)
    )


def _whole_decimal(kind: T.DataType) -> bool:
    return isinstance(kind, T.DecimalType) and kind.scale == 0  # unsigned 64-bit Parquet arrives as this


def bag(feature: MultiCategoricalFeature, name: str, kind: T.DataType, *, json: bool) -> Column:
    """The canonical strings of a bag, in order, without missing ones; null if the bag is missing.

    An array column, or a string split at the delimiter. With `json`, an array arrives as its text.
    """
    column = F.col(quoted(name))
    if isinstance(kind, T.ArrayType):
        values = F.transform(column, lambda value: canonical(value, kind.elementType, name))
    elif isinstance(kind, T.StringType):
        values = F.split(column, re.sub(r"([^\w\s])", r"\\\1", feature.delimiter, flags=re.ASCII))
        if json:
            parsed = F.when(column.startswith("["), F.from_json(column, "array<string>"))
            values = F.coalesce(parsed, values)
    else:
        raise DataInvalid(
            f"column {name!r} of the multi-categorical feature {feature.name} is of type "
            f"{kind.simpleString()}",
            "deliver an array or a delimited string, or declare the feature categorical",
        )
    return F.filter(values, lambda value: value.isNotNull() & (value != ""))


def dense(feature: DenseFeature, value: Column) -> Column:
    """(transform(value) - mean) / std, clipped, as float; computed in double. Null stays null."""
    if feature.transform == "log1p":
        value = F.when(value > -1.0, F.log1p(value)).otherwise(F.when(value.isNotNull(), F.lit(float("nan"))))
    value = (value - feature.mean) / feature.std
    if feature.clip is not None:
        low, high = feature.clip
        value = F.when(value < low, F.lit(float(low))).when(value > high, F.lit(float(high))).otherwise(value)
    # -0.0 and 0.0 compare equal, so rows that differ by it alone would have no defined order.
    value = value.cast("float")
    return F.when(value == 0.0, F.lit(0.0).cast("float")).otherwise(value)


def number(name: str, kind: T.DataType) -> Column:
    """The raw column as double; null if it is missing, no decimal number or not finite."""
    column = F.col(quoted(name))
    if isinstance(kind, T.StringType):
        text = F.trim(column)
        value = F.when(text.rlike(_NUMBER), text).try_cast("double")
        return F.when(_finite(value), value)
    if isinstance(kind, T.NumericType):
        value = column.cast("double")
        return F.when(_finite(value), value)
    if isinstance(kind, T.BooleanType):
        return column.cast("int").cast("double")
    raise DataInvalid(
        f"column {name!r} is of type {kind.simpleString()}, a number is needed", "deliver it as a number"
    )


def seconds(name: str, kind: T.DataType) -> Column:
    """The raw column as Unix seconds (bigint); null if it is missing, no number or before year 1."""
    column = F.col(quoted(name))
    if isinstance(kind, T.TimestampType):
        return F.unix_seconds(column)
    if isinstance(kind, T.TimestampNTZType):
        return F.unix_seconds(column.cast("timestamp"))
    value = F.floor(number(name, kind))
    return F.when((value >= _YEAR_1) & (value < _YEAR_10000), value).cast("bigint")


def time_part(time: Column, part: str) -> Column:
    """hour: 0 to 23. weekday: 0 (Monday) to 6. Both in UTC."""
    if part == "hour":
        return F.floor(F.pmod(time, F.lit(86_400)) / 3_600)
    return F.pmod(F.floor(time / 86_400) + 3, F.lit(7))  # 1970-01-01 was a Thursday


def _is_missing(name: str, kind: T.DataType) -> Column:
    column = F.col(quoted(name))
    if isinstance(kind, T.StringType):
        return column.isNull() | F.lower(F.trim(column)).isin("", "nan")
    if isinstance(kind, _FLOATS):
        return column.isNull() | F.isnan(column)
    return column.isNull()


def _finite(column: Column) -> Column:
    return ~(F.isnan(column) | (F.abs(column) == float("inf")))
