"""The study of the modes runs and writes every figure. The size is small: how large they are says nothing."""

import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.study.partitions import StudyStore
from benchmarks.study.plan import DATA

PROJECT = Path(__file__).resolve().parents[2]


def make(options: str) -> None:
    # What was set up for the tests is what is measured: nothing is installed anew in the midst of them.
    done = ("-o", "setup", "-o", ".venv/.requirements", "-o", ".venv/.native")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *done, "bench-modes", "SMALL=1", f"ARGS={options}"]
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=500)


@pytest.mark.mpi
@pytest.mark.spark
@pytest.mark.usefixtures("spark")
def test_the_study_of_the_modes_writes_its_figures_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    # Hashed here, by the session that is there already; the program then finds its partitions.
    (synthetic,) = [data for data in DATA if data.folder is None]
    StudyStore(tmp_path / "work", tmp_path / "nothing", small=True).partitions(synthetic)

    def run() -> dict[str, Any]:
        make(f"--out {tmp_path} --work {tmp_path / 'work'} --parts auc")
        found: dict[str, Any] = json.loads((tmp_path / "modes.json").read_text(encoding="utf-8"))
        return found

    result = run()
    assert result["figures"].keys() == {
        f"auc_{mode}_minus_sync_synthetic{end}" for mode in ("hybrid", "async") for end in ("", "_stderr")
    }
    assert all(math.isfinite(value) for value in result["figures"].values())
    settings = result["samples"]["auc"]["synthetic"]
    assert settings.keys() == {"sync", "hybrid-4", "async"}
    for found in settings.values():
        assert found.keys() == {"1", "2"}
        assert found["1"]["auc"] != found["2"]["auc"]  # the seeds are different ones
        assert all(record["skipped"] == 0 and record["samples"] == 3000 for record in found.values())
    assert settings["sync"]["1"]["staleness"]["max"] == 1
    assert settings["hybrid-4"]["1"]["staleness"]["max"] <= 4

    records = tmp_path / "work" / "auc.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    lost = json.loads(lines.pop())
    records.write_text("".join(lines))
    again = run()["samples"]["auc"]["synthetic"]
    kept = [json.loads(line) for line in records.read_text().splitlines()]
    assert kept[:-1] == [json.loads(line) for line in lines]  # nothing but the lost one was run again
    assert (kept[-1]["setting"], kept[-1]["seed"]) == (lost["setting"], lost["seed"])
    assert again["sync"] == settings["sync"]

    plot = (tmp_path / "modes_auc.svg").read_text(encoding="utf-8")
    words = {word.strip() for word in re.findall(r">([^<>]+)</text>", plot)}
    assert {"synthetic", "hybrid-4", "async"} <= words
