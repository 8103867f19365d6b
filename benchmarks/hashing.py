"""Contestants of the Spark benchmark, in a process of their own: `hashing RUN FILE...`, RUN being JSON.

Each has a session of its own, in which every file is hashed after the other; the result has the seconds of
each, the bytes of disk that they took, and what Spark's own event log says of all of them.
"""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Run:
    """What such a process is told. `names`: the contestants, of which "python udf" comes after "ours".

    `warm`: the first file is hashed once before anything is timed. `result`: name -> what was found.
    """

    names: list[str]
    warm: bool
    result: str
    scratch: str


def _timed(work: Work, files: list[Path], warm: bool, scratch: Path) -> dict[str, Any]:
    """The seconds of each file, and the most bytes that lay in `scratch` when one was done."""
    seconds, most = [], 0
    for number, source in enumerate([files[0], *files] if warm else files):
        target = scratch / f"out{number}"
        start = time.perf_counter()
        work(source, target)
        seconds.append(time.perf_counter() - start)
        most = max(most, _bytes_in(scratch))
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
    return {"seconds": seconds[-len(files) :], "disk": most}


def _bytes_in(folder: Path) -> int:
    """Of all files; Spark may remove some meanwhile."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(directory, name).stat().st_size
    return total


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


def run_one(name: str, files: list[Path], warm: bool, scratch: Path) -> dict[str, Any]:
    """What one contestant does with the files, one after the other."""
    if name == "polars":
        return _timed(polars(None), files, warm, scratch)
    from spark_jobs.session import spark_session

    logs = scratch / "events"
    logs.mkdir()
    settings = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": logs.as_uri()}
    settings |= {"spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false"}
    with spark_session(scratch / "spark", settings=settings) as spark:
        found = _timed(CONTESTANTS[name](spark), files, warm, scratch)
    (log,) = logs.iterdir()
    return found | {"shuffles": shuffles(log)}


def main() -> None:
    """See above."""
    run, files = Run(**json.loads(sys.argv[1])), [Path(file) for file in sys.argv[2:]]
    content = {}
    for name in run.names:
        (scratch := Path(run.scratch) / name.replace(" ", "-")).mkdir()
        others = files[::2] if run.warm else files[-1:]
        content[name] = run_one(name, files if name == "ours" else others, run.warm, scratch)
    Path(run.result).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
