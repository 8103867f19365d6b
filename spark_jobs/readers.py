"""Raw files as one Spark DataFrame: the columns that the configuration names, values as they stand."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from persia_core.config import ModelConfig
from persia_core.config.derived_features import CrossFeature
from persia_core.config.features import TimestampFeature
from persia_core.errors import DataInvalid, PartitionEmpty
from spark_jobs.raw_files import Format, RawFile, columns_of

MALFORMED = "_malformed"  # names in a configuration start with a letter, so these cannot collide
_CORRUPT = "_corrupt_record"


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
    file_format: Format = config.dataset.format
    needed = needed_columns(config)
    groups: dict[tuple[tuple[str, str], ...], list[RawFile]] = defaultdict(list)
    for file in files:
        columns = columns_of(file, file_format)
        if not columns:
            continue
        for name in needed:
            if name not in columns:
                raise DataInvalid(
                    f"{file.name} has no column {name!r}; it has: {', '.join(columns)}",
                    "correct the name in the configuration (label, time_column or a feature's column) "
                    "or deliver the file again",
                )
        groups[tuple(columns.items())].append(file)
    if not groups:
        raise PartitionEmpty(
            f"{', '.join(file.name for file in files)}: holds no rows",
            "look at what delivers the raw files, then run again",
        )
    return [
        _read(spark, file_format, list(dict(columns)), needed, [str(file.path) for file in group])
        for columns, group in groups.items()
    ]


def _read(spark: Any, file_format: Format, columns: list[str], needed: list[str], paths: list[str]) -> Any:
    from pyspark.sql import functions as F
    from pyspark.sql.types import StringType, StructField, StructType

    wanted = [F.col(quoted(name)) for name in needed]
    if file_format == "parquet":
        return spark.read.parquet(*paths).select(*wanted, F.lit(False).alias(MALFORMED))
    if file_format == "jsonl":
        columns = needed  # found by name, not by position
    schema = StructType([StructField(name, StringType()) for name in (*columns, _CORRUPT)])
    reader = spark.read.schema(schema).option("mode", "PERMISSIVE")
    reader = reader.option("columnNameOfCorruptRecord", _CORRUPT)
    if file_format == "jsonl":
        frame = reader.json(paths)
    else:
        reader = reader.option("header", True).option("encoding", "UTF-8")
        if file_format == "tsv":  # by convention without quoting: a quote is a character
            reader = reader.option("sep", "\t").option("quote", "")
        else:  # RFC 4180: a quote inside quotes is doubled
            reader = reader.option("escape", '"')
        frame = reader.csv(paths)
    return frame.select(*wanted, F.col(_CORRUPT).isNotNull().alias(MALFORMED))


def quoted(name: str) -> str:
    """A column name as Spark's expressions want it: in backticks, so that dots are characters."""
    return "`" + name.replace("`", "``") + "`"
