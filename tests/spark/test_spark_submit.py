"""The job as a program of its own: no Airflow, no store, started by spark-submit."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

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


def _main(tmp_path: Path, raw: list[Path], output: Path) -> None:
    """The same program in this process, with the session of the tests, which has two cores."""
    arguments = ["--config", str(_config(tmp_path)), "--ds", DS, "--output", str(output), "--input"]
    assert main([*arguments, *map(str, raw)]) == ExitCode.OK


def _digest(tmp_path: Path, output: Path) -> str:
    config = load_config(_config(tmp_path))
    statistics = PartitionStatistics(config, json.loads((output / "_report.json").read_text())["missing"])
    written = output.with_suffix(".written")
    written.mkdir()
    return digest_of(write_parts(config, _parts(output), written, statistics))


def _parts(output: Path) -> list[Path]:
    return sorted(output.glob("part-*.parquet"))


def test_it_writes_the_hashed_rows_and_a_report_whatever_the_cores_splits_and_names(
    spark: Any, tmp_path: Path
) -> None:
    """Rows, report and rejected rows; and one digest of the parts by one core and by two, split or not."""
    rng = random.Random(23)
    rows = [row for row in random_rows(6000, seed=23) if not row["price"]]  # leaves out log1p's last bit
    shuffled = rng.sample(rows, len(rows))
    (one := tmp_path / "one.csv").write_bytes(csv_bytes(rows))
    several = [tmp_path / f"{name}.csv" for name in rng.sample(range(100), 3)]
    for start, path in enumerate(several):
        path.write_bytes(csv_bytes(shuffled[start::3]) + (b"too,few\n" if start == 1 else b""))
    small = {"spark.sql.files.maxPartitionBytes": "20000", BYTES_PER_TASK: "30000"}

    submitted = tmp_path / "submitted"
    run = _submit(tmp_path, several, submitted, "local[1]", *(f"{key}={small[key]}" for key in small))
    assert run.returncode == 0, run.stderr[-3000:]
    assert len(_parts(submitted)) > 1
    table = pq.read_table(_parts(submitted))
    assert Counter(as_rows(table)) == Counter(hashed_row(row) for row in rows)
    assert table["time"].to_pylist() == sorted(table["time"].to_pylist())
    report = json.loads((submitted / "_report.json").read_text())
    assert report["ds"] == DS
    assert (report["rows_in"], report["rows_kept"]) == (len(rows) + 1, len(rows))
    assert report["rejected"] == {"malformed row": 1}
    assert report["missing"]["price"] == len(rows)
    rejected = pq.read_table(sorted((submitted / "_rejected_rows").glob("part-*.parquet"))).to_pylist()
    where = {"file": str(several[1]), "line": len(shuffled[1::3]) + 2}
    assert rejected == [where | {"reason": "malformed row", "record": "too,few"}]

    _main(tmp_path, [one], tmp_path / "whole")
    assert len(_parts(tmp_path / "whole")) == 1
    spark.conf.set(BYTES_PER_TASK, small[BYTES_PER_TASK])
    try:
        _main(tmp_path, several[::-1], tmp_path / "reversed")
    finally:
        spark.conf.unset(BYTES_PER_TASK)
    assert len(_parts(tmp_path / "reversed")) > 1
    digests = {_digest(tmp_path, tmp_path / name) for name in ("submitted", "whole", "reversed")}
    assert len(digests) == 1


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
