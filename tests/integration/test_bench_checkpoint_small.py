"""The benchmark of checkpoints writes every figure. The size is small: how large they are says nothing."""

import json
import math
import os
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FIGURES = {
    "save_tmpfs_vs_limit",
    "save_tmpfs_vs_all_cores",
    "save_with_digests_tmpfs_vs_limit",
    "restore_tmpfs_vs_limit",
    "restore_tmpfs_vs_all_cores",
    "restore_resharded_vs_limit",
    "save_s3_vs_limit",
    "restore_s3_vs_limit",
    "warm_restart_vs_reload",
    "warm_restart_vs_reload_with_digests",
    "warm_restart_vs_reload_s3",
    "warm_restart_s",
    "save_tmpfs_gb_per_s",
    "restore_tmpfs_gb_per_s",
    "training_pause_s",
    "training_during_save_vs_before",
    "training_after_save_vs_before",
}


def test_the_checkpoint_benchmark_writes_all_figures(tmp_path: Path) -> None:
    # What was set up for the tests is what is measured: nothing is installed anew in the midst of them.
    done = ("-o", "setup", "-o", ".venv/.requirements", "-o", ".venv/.native")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *done, "bench-checkpoint", "SMALL=1", f"ARGS=--out {tmp_path}"]
    before = set(Path("/dev/shm").glob("persia-bench-*"))  # noqa: S108
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=400)
    result = json.loads((tmp_path / "checkpoint.json").read_text(encoding="utf-8"))
    assert result["figures"].keys() == FIGURES
    assert all(math.isfinite(value) and value > 0 for value in result["figures"].values())
    assert result["samples"].keys() == {"tmpfs", "s3", "restarts", "snapshots", "others_cores"}
    assert set(Path("/dev/shm").glob("persia-bench-*")) <= before  # noqa: S108
