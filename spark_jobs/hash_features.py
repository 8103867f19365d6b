"""Hash a raw partition: `spark-submit hash_features.py --config F --ds D --input FILE... --output DIR`.

Reads raw files, on disk or by `s3a://`, writes the kept rows in partition order as Parquet, and counts the
others by reason. `persia hash` runs the same function and publishes its result.
"""

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig, load_config
from persia_core.config.home import work_dir
from persia_core.data.reasons import reasons
from persia_core.data.rejected import locate_rejected, refusal
from persia_core.data.schema import TIME, hashed_columns
from persia_core.data.spark_errors import check_shared
from persia_core.data.staging import named_files
from persia_core.errors import PartitionEmpty, PersiaError, StorageConflict
from persia_core.handoff.layout import check_ds
from spark_jobs.raw_files import RawFile

log = logging.getLogger(__name__)

REPORT = "_report.json"
REJECTED = "_rejected"  # beside the part files; Spark takes names with an underscore for no data
REJECTED_ROWS = "_rejected_rows"  # the same with lines
BYTES_PER_TASK = "spark.persia.bytesPerTask"  # setting: raw bytes, unpacked, per sorting task
_BYTES_PER_TASK = 64 << 20
_GZIP_RATIO = 4


@dataclass(frozen=True)
class HashReport:
    """Rows of a partition: rows_in = rows_kept + the sum of `rejected` (reason -> rows, no zeros).

    `missing`: dense feature -> kept rows without a value. `vocabulary`: feature -> some of its values,
    where that is asked for.
    """

    rows_in: int
    rows_kept: int
    rejected: dict[str, int]
    missing: dict[str, int]
    vocabulary: dict[str, list[dict[str, Any]]]

    @property
    def rows_rejected(self) -> int:
        """Rows rejected for any reason."""
        return self.rows_in - self.rows_kept


def hash_files(spark: Any, config: ModelConfig, files: Sequence[RawFile], output: Path) -> HashReport:
    """Write the hashed rows of `files` to the new directory `output`; its files, by name, are in order.

    The order is by time, then by a hash of the row, then by its columns: it depends on the rows alone,
    and rows of one second are not ordered by their label. Rejected rows, if there are any, go to
    `_rejected` in it, as `spark_jobs.rejected.write_rejected` writes them. Raises DataInvalid (not the
    declared format, a column missing), PartitionEmpty, and EnvironmentProblem (`s3a://` without its classes).
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    from spark_jobs.readers import file_uri, read_raw
    from spark_jobs.rejected import write_rejected
    from spark_jobs.s3a import SCHEME, prepare_s3a
    from spark_jobs.transform import REASON, transform
    from spark_jobs.value_counts import fold_rare, vocabulary_samples

    if any(file.location.startswith(SCHEME) for file in files):
        prepare_s3a(spark, config.storage.endpoint_url)
    raw = read_raw(spark, config, files)
    rows = reduce(lambda one, other: one.unionByName(other), (transform(frame, config) for frame in raw))
    columns = list(hashed_columns(config))
    order = [F.col(TIME), F.xxhash64(*columns), *(F.col(name) for name in columns if name != TIME)]
    rows = fold_rare(rows, config)
    rows = rows.repartitionByRange(tasks_for(spark, files), *order[:2]).sortWithinPartitions(*order)
    # Above the sort, because what lies below it runs twice: once for the sample of the ranges.
    seen = Observation()
    kinds = reasons(config)
    rows = rows.observe(
        seen,
        F.count(F.lit(1)).alias("rows"),
        *(F.count_if(F.col(REASON) == kind).alias(f"reason {n}") for n, kind in enumerate(kinds)),
        *(
            F.count_if(F.col(REASON).isNull() & F.col(feature.name).isNull()).alias(f"missing {feature.name}")
            for feature in config.dense_features
        ),
    )
    defaults = {f.name: 0.0 if f.missing == "reject" else f.missing for f in config.dense_features}
    kept = rows.where(F.col(REASON).isNull()).select(
        *(
            F.coalesce(F.col(name), F.lit(defaults[name]).cast("float")).alias(name)
            if name in defaults
            else F.col(name)
            for name in columns
        )
    )
    kept.write.mode("errorifexists").parquet(file_uri(output))
    counts = seen.get
    rejected = {kind: counts[f"reason {n}"] for n, kind in enumerate(kinds) if counts[f"reason {n}"]}
    report = HashReport(
        rows_in=counts["rows"],
        rows_kept=counts["rows"] - sum(rejected.values()),
        rejected=rejected,
        missing={name: counts[f"missing {name}"] for name in defaults},
        vocabulary=vocabulary_samples(raw, config),
    )
    if report.rows_in == 0:
        raise PartitionEmpty(
            f"{', '.join(file.name for file in files)}: holds no rows",
            "look at what delivers the raw files, then run again",
        )
    if report.rejected:
        write_rejected(spark, config, files, report.rows_rejected, output / REJECTED)
    return report


def tasks_for(spark: Any, files: Sequence[RawFile]) -> int:
    """Sorting tasks, by the size of the input: one for a small day, which then needs no sampling."""
    size = sum(file.size * (_GZIP_RATIO if file.location.endswith(".gz") else 1) for file in files)
    return max(1, math.ceil(size / int(spark.conf.get(BYTES_PER_TASK, str(_BYTES_PER_TASK)))))


def main(arguments: Sequence[str] | None = None) -> int:
    """The program behind spark-submit; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hash_features.py", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the model's YAML file")
    parser.add_argument("--ds", required=True, help="the partition, YYYY-MM-DD")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        help="raw files that all hosts see; or s3a://BUCKET/KEY, a prefix if it ends with /",
    )
    parser.add_argument("--output", type=Path, required=True, help="a directory that does not exist yet")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    from spark_jobs.session import spark_session

    try:
        check_ds(given.ds)
        config = load_config(given.config)
        files = [file for name in given.input for file in named_files(config, name)]
        if given.output.exists():
            raise StorageConflict(f"{given.output} exists already", "name a new directory after --output")
        with spark_session(work_dir()) as spark:
            report = hash_files(spark, config, files, given.output)
            check_shared(spark.sparkContext.master, report.rows_kept, given.output)
        (given.output / REPORT).write_text(json.dumps({"ds": given.ds, **asdict(report)}, indent=1) + "\n")
        if report.rejected:
            located = locate_rejected(
                given.output / REJECTED, files, given.output / REJECTED_ROWS, report.rows_rejected
            )
            if error := refusal(config, report.rows_in, report.rejected, located.first):
                raise error
    except PersiaError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    log.info(
        "ds=%s: %d of %d rows kept, rejected: %s", given.ds, report.rows_kept, report.rows_in, report.rejected
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
