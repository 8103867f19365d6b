"""The rows that hashing rejects, with file, line and reason: a second reading, only where there are any.

The reading that hashes knows no lines, so that it carries nothing for the rows that are kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig
from spark_jobs.raw_files import RawFile

FILE, BLOCK, POSITION, RECORD, LABEL_TEXT = "_file", "_block", "_position", "_record", "_label"
_ROWS_PER_TASK = 1_000_000
_POSITION_BITS = 33  # of monotonically_increasing_id; the task's number is above


def write_rejected(
    spark: Any, config: ModelConfig, files: Sequence[RawFile], count: int, output: Path
) -> None:
    """Write the rejected rows of `files`, about `count` of them, as Parquet to the new directory `output`.

    Columns: `_reason`, `_file` (its location, as in RawFile), `_block` (the byte of the file at which the
    split of the reader began; 0 for Parquet), `_position` (lines, of Parquet rows, before it in the split),
    `_record` (the line as it stands, with U+FFFD for what is no UTF-8, or the row as JSON), `_label` (the
    raw label as text). Files, by name, hold the rows in order of file, block and position.
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    from spark_jobs.readers import file_uri, quoted, read_located
    from spark_jobs.transform import REASON, transform

    with _one_split_per_task(spark):
        frames = []
        for raw in read_located(spark, config, files):
            label = F.make_valid_utf8(F.col(quoted(config.dataset.label)).cast("string"))
            located = raw.withColumns({LABEL_TEXT: label, RECORD: F.make_valid_utf8(RECORD)})
            rows = transform(located, config, keep=[FILE, BLOCK, POSITION, RECORD, LABEL_TEXT])
            kept = [REASON, FILE, BLOCK, POSITION, RECORD, LABEL_TEXT]
            # Below the observation Spark would put the condition into every step of the transform.
            rows = rows.select(*kept).observe(Observation(), F.count(F.lit(1)).alias("rows"))
            frames.append(rows.where(F.col(REASON).isNotNull()))
        rows = frames[0]
        for frame in frames[1:]:
            rows = rows.unionByName(frame)
        tasks = -(-count // _ROWS_PER_TASK)
        order = [FILE, BLOCK, POSITION]
        rows.repartitionByRange(tasks, *order).sortWithinPartitions(*order).write.parquet(file_uri(output))


def position_in_split() -> Any:
    """The number of records before this one in the split that a task reads."""
    from pyspark.sql import functions as F

    return F.monotonically_increasing_id().bitwiseAND(F.lit((1 << _POSITION_BITS) - 1))


@contextmanager
def _one_split_per_task(spark: Any) -> Iterator[None]:
    """Spark packs small splits into one task, but not when opening a file seems to cost a whole task."""
    key = "spark.sql.files.openCostInBytes"
    before = spark.conf.get(key)
    spark.conf.set(key, spark.conf.get("spark.sql.files.maxPartitionBytes"))
    try:
        yield
    finally:
        spark.conf.set(key, before)
