"""The benchmark programs run and write every figure. The size is small: how large they are says nothing."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DIMS = (16, 64)  # of three: what is done for one of them is done for each
CONTESTANTS = {
    "elementwise": {"ours", "reference"},
    "limit": {"ours", "limit"},
    "torch": {"ours", "torch"},
    "row-wise": {"ours", "fbgemm"},
    "row-wise, one feature": {"ours", "fbgemm, one feature"},
    "row-wise, 2 threads": {"ours, 2 threads", "fbgemm, one feature, 2 threads"},
}
MEASURED = {f"{d} {what}" for d in ("zipf", "uniform") for what in ("lookup", "lookup+update")}
FIGURES = {
    *(
        f"{what}_dim{d}"
        for d in DIMS
        for what in ("lookup_vs_fbgemm", "update_vs_fbgemm", "update_vs_reference")
    ),
    *(f"{what}_vs_fbgemm_one_feature_dim{d}" for d in DIMS for what in ("lookup", "update")),
    *(f"{what}_dim{d}" for d in DIMS for what in ("update_vs_limit", "update_vs_torch")),
    "served_mrows_per_s_dim16",
    "overhead_bytes_per_row",
    "rss_growth_at_capacity",
}


def run_small(name: str, out: Path, options: str = "") -> dict[str, Any]:
    """What `make bench-<name> SMALL=1` writes."""
    # What was set up for the tests is what is measured: nothing is installed anew in the midst of them.
    done = ("-o", "setup", "-o", ".venv/.requirements", "-o", ".venv/.native")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(
        ["make", *done, f"bench-{name}", "SMALL=1", f"ARGS=--out {out} {options}"],
        cwd=PROJECT,
        env=environment,
        check=True,
        timeout=400,
    )
    result: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    return result


@pytest.mark.mpi
def test_the_store_benchmark_writes_all_figures_and_a_plot(tmp_path: Path) -> None:
    result = run_small("store", tmp_path, f"--dims {' '.join(map(str, DIMS))}")
    assert result.keys() == {"commit", "command", "machine", "date", "figures", "notes", "samples"}
    assert all(result[key] for key in ("commit", "command", "machine", "date"))
    assert not [note for note in result["notes"] if "left out" in note]
    assert result["figures"].keys() == FIGURES
    assert all(math.isfinite(value) for value in result["figures"].values())

    samples = result["samples"]
    assert samples["served"]["mrows_per_s"]
    for dim in DIMS:
        for company, names in CONTESTANTS.items():
            found = samples[f"20000 rows, dim {dim}, {company}"]
            assert found.keys() == names | {"others_cores"}
            for name in names:
                assert found[name].keys() == MEASURED
                assert all(value > 0 for values in found[name].values() for value in values)

    plot = (tmp_path / "bench_store.svg").read_text(encoding="utf-8")
    words = {word.strip() for word in re.findall(r">([^<>]+)</text>", plot)}
    assert {"ours", "fbgemm", "torch", "reference", "limit"} <= words


def test_the_gpu_benchmark_runs_without_one(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--batches", "64", "--steps", "2", "--rounds", "1", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "benchmarks.gpu", *options], cwd=PROJECT, check=True, timeout=400)
    result = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert result["figures"].keys() == {"with_staging_ratio_batch64", "with_rows_ratio_batch64"}
    for name in ("dense alone", "with staging", "with rows"):
        assert all(value > 0 for value in result["samples"]["64"][name]["samples/s"])


@pytest.mark.mpi
def test_the_training_benchmark_writes_all_figures_and_a_plot(tmp_path: Path) -> None:
    result = run_small("train", tmp_path, "--dims 16")
    assert not [note for note in result["notes"] if "left out" in note]
    others = ("ceiling", "fbgemm", "torch")
    assert result["figures"].keys() == {f"train_vs_{other}_dim16" for other in others}
    assert all(value > 0 and math.isfinite(value) for value in result["figures"].values())
    found = result["samples"]["dim 16"]
    assert found.keys() == {"ours", "dense part alone", "fbgemm", "torch", "others_cores"}
    assert "dense part alone" in (tmp_path / "bench_train.svg").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_the_serving_benchmark_writes_all_figures(tmp_path: Path) -> None:
    result = run_small("serve", tmp_path)
    per_batch = ("serve_p50_ms", "serve_p99_ms", "serve_rows_per_s")
    assert result["figures"].keys() == {
        *(f"{name}_batch{batch}" for name in per_batch for batch in (1, 32, 256)),
        *("serve_start_s", "serve_first_start_s", "serve_start_table_gib"),
    }
    assert all(value > 0 for value in result["figures"].values())
    assert not [note for note in result["notes"] if "failed" in note]
