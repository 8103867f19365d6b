"""One contestant of the Spark benchmark, in a process of its own: `hashing NAME RESULT SCRATCH FILE...`.

Every file is hashed after the other, by the session that the first one warmed up; RESULT gets the seconds
of each, and what Spark's own event log says of the last one.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig, load_config
from spark_jobs.raw_files import local_file

PROJECT = Path(__file__).resolve().parents[1]
CONFIG = PROJECT / "configs" / "criteo.yaml"
Work = Callable[[Path, Path], None]  # from a raw file to a new directory or file


def config() -> ModelConfig:
    """The shipped schema of Criteo: 12 numbers, 1 range, 26 categories."""
    return load_config(CONFIG)


def ours(spark: Any) -> Work:
    """The job as `persia hash` runs it."""
    from spark_jobs.hash_features import hash_files

    def work(source: Path, target: Path) -> None:
        hash_files(spark, config(), [local_file(source, source.name)], target)

    return work


def python_udf(spark: Any) -> Work:
    """The same job, but a Python function makes each id."""
    import xxhash
    from pyspark.sql import functions as F

    from spark_jobs import transform

    def id_of(value: Any, salt: str, prefix: int, prefix_bits: int) -> Any:
        def make_id(text: str | None) -> int | None:
            if text is None:
                return None
            bits = (
                prefix << (64 - prefix_bits)
                | xxhash.xxh64_intdigest((salt + text).encode(), 42) >> prefix_bits
            )
            return bits - (1 << 64) if bits >= 1 << 63 else bits

        return F.udf(make_id, "bigint")(value)

    vars(transform)["id_of"] = id_of  # what the transform calls
    return ours(spark)


def plain_copy(spark: Any) -> Work:
    """The same reading, and the columns as they are written as Parquet: no hashing, no order."""
    from spark_jobs.readers import read_raw

    def work(source: Path, target: Path) -> None:
        (raw,) = read_raw(spark, config(), [local_file(source, source.name)])
        raw.write.parquet(str(target))

    return work


def ordered_copy(spark: Any) -> Work:
    """The same, in the order of a hash of the row, over as many tasks as the job has."""
    from pyspark.sql import functions as F

    from spark_jobs.hash_features import tasks_for
    from spark_jobs.readers import read_raw

    def work(source: Path, target: Path) -> None:
        files = [local_file(source, source.name)]
        (raw,) = read_raw(spark, config(), files)
        order = F.xxhash64(*raw.columns)
        ordered = raw.repartitionByRange(tasks_for(spark, files), order).sortWithinPartitions(order)
        ordered.write.parquet(str(target))

    return work


def polars(_: Any) -> Work:
    """The same rows by Polars with polars-hash, all of its threads, in the order of a hash of the row."""
    from benchmarks.polars_hashing import hash_file

    def work(source: Path, target: Path) -> None:
        hash_file(config(), source, target)

    return work


CONTESTANTS: dict[str, Callable[[Any], Work]] = {
    "ours": ours,
    "plain copy": plain_copy,
    "ordered copy": ordered_copy,
    "python udf": python_udf,
    "polars": polars,
}


def _timed(work: Work, files: list[Path], scratch: Path) -> list[float]:
    seconds = []
    for number, source in enumerate([files[0], *files]):  # the first one twice: to warm up
        start = time.perf_counter()
        work(source, scratch / f"out{number}")
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def shuffles(log: Path) -> dict[str, int]:
    """Of Spark's event log: stages that wrote a shuffle, and the records and bytes that they wrote."""
    found = {"stages": 0, "records": 0, "bytes": 0}
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["Event"] != "SparkListenerStageCompleted":
            continue
        figures = {entry["Name"]: entry["Value"] for entry in event["Stage Info"]["Accumulables"]}
        records = int(figures.get("internal.metrics.shuffle.write.recordsWritten", 0))
        found["stages"] += records > 0
        found["records"] += records
        found["bytes"] += int(figures.get("internal.metrics.shuffle.write.bytesWritten", 0))
    return found


def main() -> None:
    """See above."""
    name, result, scratch = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    files = [Path(file) for file in sys.argv[4:]]
    content: dict[str, Any] = {}
    if name == "polars":
        content["seconds"] = _timed(polars(None), files, scratch)
    else:
        from spark_jobs.session import spark_session

        logs = scratch / "events"
        logs.mkdir()
        settings = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": logs.as_uri()}
        settings |= {"spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false"}
        options = " ".join(f"--conf {key}={value}" for key, value in settings.items())
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"{options} pyspark-shell"
        with spark_session(scratch / "spark") as spark:
            content["seconds"] = _timed(CONTESTANTS[name](spark), files, scratch)
        (log,) = logs.iterdir()
        content["shuffles"] = shuffles(log)
    result.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
