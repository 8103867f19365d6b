"""Raw values as Spark expressions: canonical strings, ids, numbers, times; no Python runs per row.

The rules are those of docs/formats/ids.md and docs/formats/hashed.md; `persia_core.ids` and
`persia_core.data.rows` state them in Python, and tests bind the two together.
"""

import re
from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from persia_core.config.features import DenseFeature, MultiCategoricalFeature
from persia_core.config.time_format import time_pattern
from persia_core.errors import DataInvalid

Types = dict[str, T.DataType]

# \z, not $: in Java a dollar stands before a line break at the end, too.
_NUMBER = r"\A[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\z"
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800
_EXACT_INTEGERS = float(1 << 53)
_FLOATS = (T.FloatType, T.DoubleType)
_SPARK_TEXT = (T.BooleanType, T.ByteType, T.ShortType, T.IntegerType, T.LongType)


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


def cross(first: Column, second: Column) -> Column:
    """The canonical string of a pair, never null: `persia_core.ids.cross` in Spark."""
    return F.concat(
        *(
            F.coalesce(F.concat(F.octet_length(text).cast("string"), F.lit(":"), text), F.lit("-"))
            for text in (first, second)
        )
    )


def bucket(value: Column, boundaries: Sequence[float]) -> Column:
    """How many boundaries are at or below the value; null where that is null."""
    ranges = F.when(value < boundaries[0], F.lit(0))
    for position, boundary in enumerate(boundaries[1:], start=1):
        ranges = ranges.when(value < boundary, F.lit(position))
    return F.when(value.isNotNull(), ranges.otherwise(F.lit(len(boundaries))))


def elements(
    feature: MultiCategoricalFeature, column: Column, kind: T.DataType, name: str, *, json: bool
) -> Column:
    """The canonical strings of a bag, in order, without missing ones; null if the bag is missing.

    An array column, or a string split at the delimiter. With `json`, an array arrives as its text.
    """
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
    return F.filter(values, lambda value: value.isNotNull() & ~value.isin("", *feature.missing_values))


def shortened(feature: MultiCategoricalFeature, bag: Column) -> Column:
    """At most `max_length` elements of a bag: the first or the last ones."""
    if feature.keep == "first":
        return F.slice(bag, 1, feature.max_length)
    # A slice from an end that lies before the array is empty.
    return F.slice(bag, F.greatest(F.size(bag) - feature.max_length, F.lit(0)) + 1, feature.max_length)


def number(column: Column, kind: T.DataType, name: str) -> Column:
    """The raw column as double; null if it is missing or no decimal number. It may be infinite or NaN."""
    if isinstance(kind, T.StringType):
        text = F.trim(column)
        return F.when(text.rlike(_NUMBER), text).try_cast("double")
    if isinstance(kind, T.NumericType):
        return column.cast("double")
    if isinstance(kind, T.BooleanType):
        return column.cast("int").cast("double")
    raise DataInvalid(
        f"column {name!r} is of type {kind.simpleString()}, a number is needed", "deliver it as a number"
    )


def scaled(feature: DenseFeature, value: Column) -> Column:
    """(transform(value) - mean) / std as double; null where the value is null or has no logarithm."""
    if feature.transform == "log1p":
        value = F.log1p(value)  # null from -1 down
    return (value - feature.mean) / feature.std


def clipped(feature: DenseFeature, value: Column) -> Column:
    """The value between the feature's clips, as float; null stays null."""
    if feature.clip is not None:
        low, high = (F.lit(float(bound)) for bound in feature.clip)
        value = F.when(value.isNotNull(), F.least(F.greatest(value, low), high))
    return positive_zero(value.cast("float"))


def positive_zero(value: Column) -> Column:
    """-0.0 as 0.0: they compare equal, so rows that differ by it alone would have no defined order."""
    return value + F.lit(0.0).cast("float")


def is_time(kind: T.DataType) -> bool:
    """Whether values of this type are times by themselves."""
    return isinstance(kind, T.TimestampType | T.TimestampNTZType)


def seconds_of_time(column: Column, kind: T.DataType) -> Column:
    """Unix seconds (bigint) of a column of times; those without a zone are in UTC."""
    return F.unix_seconds(column.cast("timestamp") if isinstance(kind, T.TimestampNTZType) else column)


def seconds_of_number(value: Column) -> Column:
    """Unix seconds (bigint), without a fraction; null if it is not between the years 1 and 9999."""
    value = F.floor(value)
    return F.when((value >= _YEAR_1) & (value < _YEAR_10000), value).cast("bigint")


def seconds_of_text(text: Column, time_format: str) -> Column:
    """Unix seconds (bigint) of a text in UTC; null if it is not of that format or no such moment exists."""
    pattern, replacement = time_pattern(time_format)
    whole = rf"\A{pattern}\z"
    iso = F.regexp_replace(text, whole, replacement)
    moment = F.try_to_timestamp(F.when(text.rlike(whole), iso), F.lit("yyyy-MM-dd HH:mm:ss"))
    return F.unix_seconds(moment)


def time_part(time: Column, part: str) -> Column:
    """hour: 0 to 23. weekday: 0 (Monday) to 6. Both in UTC."""
    if part == "hour":
        return F.floor(F.pmod(time, F.lit(86_400)) / 3_600)
    return F.pmod(F.floor(time / 86_400) + 3, F.lit(7))  # 1970-01-01 was a Thursday


def is_missing(column: Column, kind: T.DataType) -> Column:
    """Whether a raw number or time is missing: null, NaN, or text that is blank or says NaN."""
    if isinstance(kind, T.StringType):
        return column.isNull() | F.lower(F.trim(column)).isin("", "nan")
    if isinstance(kind, _FLOATS):
        return column.isNull() | F.isnan(column)
    return column.isNull()


def finite_only(column: Column) -> Column:
    """Null where a number is infinite or NaN."""
    return F.when(finite(column), column)


def finite(column: Column) -> Column:
    """Null where the column is null."""
    return ~(F.isnan(column) | (F.abs(column) == float("inf")))
