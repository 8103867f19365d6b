"""The job as a program of its own: no Airflow, no store, started by spark-submit."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from persia_core.config import load_config
from persia_core.data.hashed_writer import write_parts
from persia_core.data.statistics import PartitionStatistics
from persia_core.exit_codes import ExitCode
from persia_core.handoff.manifest import digest_of
from spark_jobs.hash_features import BYTES_PER_TASK, main
from tests.spark.oracle import COLUMNS, DOCUMENT, hashed_row
from tests.spark.support import DS, as_rows, csv_bytes, random_rows

pytestmark = pytest.mark.spark

ROOT = Path(__file__).parents[2]


def _config(tmp_path: Path) -> Path:
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    return path


def _submit(
    tmp_path: Path, raw: list[Path], output: Path, master: str = "local[1]", *settings: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    command = [Path(sys.executable).with_name("spark-submit"), "--master", master]
    for setting in settings:
        command += ["--conf", setting]
    command += ["--conf", "spark.ui.enabled=false", "--conf", "spark.log.level=WARN"]
    command += ["--conf", "spark.driver.extraJavaOptions=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"]
    command += [ROOT / "spark_jobs" / "hash_features.py", "--config", _config(tmp_path), "--ds", DS]
    command += ["--input", *raw, "--output", output]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_it_writes_the_hashed_rows_and_a_report(tmp_path: Path) -> None:
    rows = [row for row in random_rows(100, seed=21) if not row["price"]]  # leaves out log1p's last bit
    raw = tmp_path / "a.csv"
    raw.write_bytes(csv_bytes(rows) + b"too,few\n")
    run = _submit(tmp_path, [raw], tmp_path / "out")
    assert run.returncode == 0, run.stderr[-3000:]
    table = pq.read_table(sorted((tmp_path / "out").glob("part-*.parquet")))
    assert Counter(as_rows(table)) == Counter(hashed_row(row) for row in rows)
    report = json.loads((tmp_path / "out" / "_report.json").read_text())
    assert report["ds"] == DS
    assert (report["rows_in"], report["rows_kept"]) == (len(rows) + 1, len(rows))
    assert report["rejected"] == {"malformed row": 1}
    assert report["missing"]["price"] == len(rows)
    rejected = pq.read_table(sorted((tmp_path / "out" / "_rejected_rows").glob("part-*.parquet"))).to_pylist()
    lines = len(raw.read_text(encoding="utf-8").splitlines())
    assert rejected == [{"file": str(raw), "line": lines, "reason": "malformed row", "record": "too,few"}]


def test_cores_splits_tasks_and_the_names_of_files_change_nothing(tmp_path: Path) -> None:
    """The digest of the parts, and the order of the rows, by one core and by two, split finely and not."""
    rng = random.Random(23)
    rows = random_rows(3000, seed=23)
    data = [csv_bytes(rows)]
    shuffled = rng.sample(rows, len(rows))
    several = [csv_bytes(shuffled[start::3]) for start in range(3)]
    small = ("spark.sql.files.maxPartitionBytes=20000", f"{BYTES_PER_TASK}=30000")
    digests = []
    for attempt, (contents, master, settings) in enumerate(
        [(data, "local[1]", ()), (several, "local[2]", small), (several[::-1], "local[2]", small[1:])]
    ):
        files = [tmp_path / f"{attempt}-{rng.random()}.csv" for _ in contents]
        for path, content in zip(files, contents, strict=True):
            path.write_bytes(content)
        output = tmp_path / f"out{attempt}"
        run = _submit(tmp_path, files, output, master, *settings)
        assert run.returncode == 0, run.stderr[-3000:]
        parts = sorted(output.glob("part-*.parquet"))
        assert (len(parts) > 1) == bool(settings)
        config = load_config(_config(tmp_path))
        statistics = PartitionStatistics(config, json.loads((output / "_report.json").read_text())["missing"])
        written = tmp_path / f"written{attempt}"
        written.mkdir()
        digests.append(digest_of(write_parts(config, parts, written, statistics)))
        times = pq.read_table(parts)["time"].to_pylist()
        assert times == sorted(times)
    assert digests[0] == digests[1] == digests[2]


@pytest.mark.usefixtures("spark")
def test_an_error_ends_with_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "a.csv"
    raw.write_bytes(csv_bytes(random_rows(5, seed=22), [name for name in COLUMNS if name != "city"]))
    arguments = ["--config", str(_config(tmp_path)), "--ds", DS, "--output", str(tmp_path / "out"), "--input"]
    assert main([*arguments, str(raw)]) == ExitCode.DATA_INVALID
    assert f"error: {raw} has no column 'city'" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "b.csv")]) == ExitCode.PARTITION_MISSING
    assert f"error: {tmp_path / 'b.csv'}: no such file\n  what to do: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
