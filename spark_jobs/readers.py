"""Raw files as one Spark DataFrame: the columns that the configuration names, values as they stand."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig
from persia_core.config.derived_features import CrossFeature
from persia_core.config.features import TimestampFeature
from persia_core.errors import DataInvalid, PartitionEmpty
from spark_jobs.raw_files import RawFile, header_of
from spark_jobs.rejected import BLOCK, FILE, POSITION, RECORD, position_in_split

MALFORMED = "_malformed"  # names in a configuration start with a letter, so these cannot collide
_CORRUPT = "_corrupt_record"
_PARSED = "_parsed"
_ARRAY = r"\A[\x00-\x20]*\["
_PERMISSIVE = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT}
_PATTERN = re.compile(r"[\\{}\[\]*?]")
_NOT_BLANK = r"[^\x00-\x20]"  # what Spark's readers take for a blank line has no such character


def needed_columns(config: ModelConfig) -> list[str]:
    """The raw columns that the configuration reads, each once, in its order."""
    dataset = config.dataset
    names = [dataset.label]
    names += [name for name in (dataset.time_column, dataset.weight) if name is not None]
    names += [
        feature.column or feature.name
        for feature in config.features
        if not isinstance(feature, TimestampFeature | CrossFeature)
    ]
    return list(dict.fromkeys(names))


def read_raw(spark: Any, config: ModelConfig, files: Sequence[RawFile]) -> list[Any]:
    """DataFrames of `needed_columns(config)` and the boolean `_malformed`, in no particular order.

    Text formats give strings as written (null for an empty field); Parquet gives its own types. There
    is one DataFrame for all files with the same columns, so order and types may change from file to
    file. Raises DataInvalid, naming the file, for a file that is
    not of the declared format or lacks a column; PartitionEmpty if no file holds anything.
    """
    return [_read(spark, config, group) for group in _groups(config, files)]


def read_located(spark: Any, config: ModelConfig, files: Sequence[RawFile]) -> list[Any]:
    """As `read_raw`, with the columns `_file`, `_block`, `_position` and `_record` of `spark_jobs.rejected`.

    Lines of text are read as such and parsed after that: the same parser, and slower.
    """
    return [_locate(spark, config, group) for group in _groups(config, files)]


@dataclass(frozen=True)
class _Group:
    """Files with the same columns. `headers`: file -> the line of its header, from 0."""

    columns: tuple[str, ...]
    paths: list[str]
    headers: dict[str, int]


def _groups(config: ModelConfig, files: Sequence[RawFile]) -> list[_Group]:
    needed = needed_columns(config)
    groups: dict[tuple[tuple[str, str], ...], _Group] = {}
    for file in files:
        header = header_of(file, config.dataset)
        if not header.columns:
            continue
        for name in needed:
            if name not in header.columns:
                raise DataInvalid(
                    f"{file.name} has no column {name!r}; it has: {', '.join(header.columns)}",
                    "correct the name in the configuration (label, time_column, weight, columns or a "
                    "feature's column) or deliver the file again",
                )
        kinds = tuple(header.columns.items())
        group = groups.setdefault(kinds, _Group(tuple(header.columns), [], {}))
        group.paths.append(_spark_path(file))
        if header.line is not None:
            group.headers[file.location] = header.line
    if not groups:
        raise PartitionEmpty(
            f"{', '.join(file.name for file in files)}: holds no rows",
            "look at what delivers the raw files, then run again",
        )
    return list(groups.values())


def _read(spark: Any, config: ModelConfig, group: _Group) -> Any:
    from pyspark.sql import functions as F

    file_format = config.dataset.format
    wanted = [F.col(quoted(name)) for name in needed_columns(config)]
    if file_format == "parquet":
        return spark.read.parquet(*group.paths).select(*wanted, F.lit(False).alias(MALFORMED))
    if file_format == "jsonl":  # columns are found by name, not by position
        frame = spark.read.schema(_schema(needed_columns(config))).options(**_PERMISSIVE).json(group.paths)
    else:
        reader = spark.read.schema(_schema(group.columns)).options(**_csv_options(config))
        frame = reader.option("header", config.dataset.columns is None).csv(group.paths)
    return frame.select(*wanted, F.col(_CORRUPT).isNotNull().alias(MALFORMED))


def _locate(spark: Any, config: ModelConfig, group: _Group) -> Any:
    from pyspark.sql import functions as F

    # A URI in Java's spelling, which is not Python's: as the file's location.
    uri = F.regexp_replace("_metadata.file_path", r"\+", "%2B")
    file = F.regexp_replace(F.url_decode(uri), r"\Afile:/+", "/").alias(FILE)
    if config.dataset.format == "parquet":
        wanted = [F.col(quoted(name)) for name in needed_columns(config)]
        place = [F.lit(0).cast("bigint").alias(BLOCK), F.col("_metadata.row_index").alias(POSITION)]
        record = F.to_json(F.struct(*wanted)).alias(RECORD)
        frame = spark.read.parquet(*group.paths)
        return frame.select(*wanted, F.lit(False).alias(MALFORMED), file, *place, record)
    block = F.col("_metadata.file_block_start").alias(BLOCK)
    lines = spark.read.text(group.paths)
    lines = lines.select("value", file, block, position_in_split().alias(POSITION))
    if config.dataset.format != "jsonl":
        is_header = F.lit(False)
        for line in sorted(set(group.headers.values())):
            having = [path for path, at in group.headers.items() if at == line]
            these = F.lit(True) if len(having) == len(group.headers) else F.col(FILE).isin(*having)
            is_header = is_header | (these & (F.col(POSITION) == line))
        lines = lines.where(~((F.col(BLOCK) == 0) & is_header))
    return _parse(lines, config, group, FILE, BLOCK, POSITION, F.col("value").alias(RECORD))


def _parse(lines: Any, config: ModelConfig, group: _Group, *keep: Any) -> Any:
    """The needed columns of lines of text, `_malformed`, and `keep`; blank lines and comments go."""
    from pyspark.sql import functions as F

    value = F.col("value")
    needed = needed_columns(config)
    lines = lines.where(value.rlike(_NOT_BLANK))
    if config.dataset.format == "jsonl":
        lines = lines.withColumn(_PARSED, _json_rows(value, needed))
        lines = lines.withColumn(_PARSED, F.explode(_PARSED))
    else:
        if config.dataset.comment is not None:
            lines = lines.where(~value.startswith(config.dataset.comment))
        parsed = F.from_csv(value, _schema(group.columns).toDDL(), _csv_options(config))
        lines = lines.withColumn(_PARSED, parsed)
    fields = F.col(_PARSED)
    corrupt = fields.isNull() | fields.getField(_CORRUPT).isNotNull()
    return lines.select(
        *(fields.getField(name).alias(name) for name in needed), corrupt.alias(MALFORMED), *keep
    )


def _json_rows(value: Any, needed: list[str]) -> Any:
    """A line of JSON as an array of rows, as Spark's reader has it: an array of objects is that many rows."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import ArrayType

    schema = _schema(needed)
    several = F.from_json(value, ArrayType(schema), {"mode": "PERMISSIVE"})
    one = F.array(F.from_json(value, schema, _PERMISSIVE))
    nothing = F.array(F.lit(None).cast(schema))  # no such array: a malformed row
    return F.when(value.rlike(_ARRAY), F.coalesce(several, nothing)).otherwise(one)


def _schema(columns: Sequence[str]) -> Any:
    from pyspark.sql.types import StringType, StructField, StructType

    return StructType([StructField(name, StringType()) for name in (*columns, _CORRUPT)])


def _csv_options(config: ModelConfig) -> dict[str, str]:
    dataset = config.dataset
    options = _PERMISSIVE | {"encoding": "UTF-8"}
    if dataset.format == "tsv":  # by convention without quoting: a quote is a character
        options |= {"sep": "\t", "quote": ""}
    else:  # RFC 4180: a quote inside quotes is doubled
        options["escape"] = '"'
    if dataset.trim:
        options |= {"ignoreLeadingWhiteSpace": "true", "ignoreTrailingWhiteSpace": "true"}
    if dataset.comment is not None:
        options["comment"] = dataset.comment
    return options


def file_uri(path: Path) -> str:
    """A path for Spark, whatever file system is its default. Hadoop takes the characters as they are."""
    return f"file://{path.absolute()}"


def _spark_path(file: RawFile) -> str:
    """A raw file for Spark, which takes some characters for patterns of names, unless they are escaped."""
    uri = file.location if "://" in file.location else file_uri(Path(file.location))
    return _PATTERN.sub(r"\\\g<0>", uri)


def quoted(name: str) -> str:
    """A column name as Spark's expressions want it: in backticks, so that dots are characters."""
    return "`" + name.replace("`", "``") + "`"
