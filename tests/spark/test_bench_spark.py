"""The Spark benchmark runs and writes every figure. The size is small: how large they are says nothing."""

import json
import math
import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
OTHERS = ("plain copy", "ordered copy", "python udf", "polars")
FIGURES = {
    *(f"hash_vs_{name.replace(' ', '_')}" for name in OTHERS),
    "time_growth_per_doubling",
    "hash_rows_per_s",
    "hash_peak_gib",
}


@pytest.mark.spark
def test_the_spark_benchmark_writes_all_figures(tmp_path: Path) -> None:
    # What was set up for the tests is what is measured: nothing is installed anew in the midst of them.
    done = ("-o", "setup", "-o", ".venv/.requirements", "-o", ".venv/.native")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(
        ["make", *done, "bench-spark", "SMALL=1", f"ARGS=--out {tmp_path}"],
        cwd=PROJECT,
        env=environment,
        check=True,
        timeout=580,
    )
    result = json.loads((tmp_path / "spark.json").read_text(encoding="utf-8"))
    assert result.keys() == {"commit", "command", "machine", "date", "figures", "notes", "samples"}
    assert result["figures"].keys() == FIGURES
    assert all(math.isfinite(value) and value > 0 for value in result["figures"].values())
    for name in ("ours", *OTHERS):
        assert all(value > 0 for values in result["samples"][name].values() for value in values)
    rows = result["samples"]["rows"]
    files = [rows // 4, rows // 2, rows]
    assert result["samples"]["shuffles"]["ours"]["records"] == sum(files)
    assert result["samples"]["shuffles"]["ours"]["stages"] == len(files)
    assert result["samples"]["shuffles"]["plain copy"]["stages"] == 0
    (note,) = [note for note in result["notes"] if note.startswith("ours")]
    assert f"an order needs {len(files)} stages, one a file, and {sum(files)} records" in note
    (note,) = [note for note in result["notes"] if note.startswith("for docs/spark-cluster.md")]
    row = result["samples"]["raw_bytes"][-1] / rows
    shuffled = result["samples"]["shuffles"]["ours"]
    assert f"b = {row:.0f} bytes" in note
    assert f"s = {shuffled['bytes'] / shuffled['records']:.0f} bytes" in note
