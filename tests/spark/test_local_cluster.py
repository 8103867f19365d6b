"""The job on executors that are processes of their own: Spark's own cluster of two on one host."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from persia_core.data.hashing import hash_partition
from persia_core.exit_codes import ExitCode
from tests.spark.oracle import DOCUMENT
from tests.spark.support import DS, config_of, csv_bytes, local_store, published, random_rows, rejected_rows

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]


def spark_home(directory: Path) -> Path:
    """Spark's programs as links, so that its workers write their logs beside them, and not there."""
    directory.mkdir()
    for path in Path(pyspark.__file__).parent.iterdir():
        (directory / path.name).symlink_to(path)
    return directory


def test_two_executors_make_the_partition_that_one_process_makes(tmp_path: Path) -> None:
    rows = random_rows(400, seed=41)
    files = {f"{n}.csv": csv_bytes(rows[n::3]) + b"too,few\n" for n in range(3)}
    store, other = (local_store(tmp_path / name, files) for name in ("store", "other"))
    expected = hash_partition(config_of(), other, DS)

    (events := tmp_path / "events").mkdir()
    quick = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    settings = {
        "spark.persia.bytesPerTask": "10000",
        "spark.sql.files.maxPartitionBytes": "8000",
        "spark.executor.extraJavaOptions": quick,
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.compress": "false",
    }
    section = {"master": "local-cluster[2,1,1024]", "read_from": "direct", "settings": settings}
    config, result = tmp_path / "model.yaml", tmp_path / "result.json"
    config.write_text(json.dumps(DOCUMENT | {"storage": {"url": store.url}, "spark": section}))
    command = [Path(sys.executable).with_name("persia"), "hash", "--config", config, "--ds", DS]
    environment = os.environ | {"SPARK_HOME": str(spark_home(tmp_path / "spark"))}
    run = subprocess.run(
        [*command, "--result-file", result],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == ExitCode.OK, run.stderr[-3000:]
    assert json.loads(result.read_text())["digest"] == expected.digest
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    assert published(store, tmp_path / "a")[0].parts == published(other, tmp_path / "b")[0].parts
    names = [(store.uri(f"raw/clicks/ds={DS}/{name}"), len(rows[n::3]) + 2) for n, name in enumerate(files)]
    assert [row[:2] for row in rejected_rows(store, tmp_path / "a")[1]] == names

    (log,) = events.iterdir()
    done = [json.loads(line) for line in log.read_text().splitlines()]
    tasks = [event for event in done if event["Event"] == "SparkListenerTaskEnd"]
    assert {task["Task Info"]["Executor ID"] for task in tasks} == {"0", "1"}
