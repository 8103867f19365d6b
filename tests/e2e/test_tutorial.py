"""The tutorial is followed to the letter: its files are written, its commands are run, in its order."""

import collections
import csv
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from persia_core.config import ModelConfig, parse_config
from persia_core.config.model import Storage
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.models import list_versions
from persia_core.handoff.pointer import CHAMPION, read_pointer
from tests.support.serving import serving

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial-own-model.md"
LIMIT_S = 1500
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.spark
@pytest.mark.mpi
@pytest.mark.timeout(LIMIT_S + 60)
def test_the_tutorial_ends_with_its_model_as_champion(tmp_path: Path) -> None:
    blocks = BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))
    for _, name, text in blocks:
        if name:
            (tmp_path / name).write_text(text)
    commands = "".join(text for language, _, text in blocks if language == "bash")
    (tmp_path / "commands.sh").write_text(commands)

    unset = ("PERSIA_", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["bash", "-o", "errexit", "-o", "nounset", "-o", "xtrace", "commands.sh"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]

    config = parse_config(yaml.safe_load((tmp_path / "clicks.yaml").read_text()), "clicks.yaml")
    store = LocalStore(tmp_path / "store")
    published = json.loads((tmp_path / "second.json").read_text())["version"]
    champion = read_pointer(store, config.name, CHAMPION)
    assert champion is not None
    assert champion[0].version == published
    assert published.startswith("2026-01-02")
    newest, oldest = list_versions(store, config.name)
    assert (newest.version, newest.passed, newest.parent) == (published, True, oldest.version)
    assert newest.rows_trained == 4000
    raw_rows_are_served_as_the_trainer_scored_them(config, tmp_path, published)


def raw_rows_are_served_as_the_trainer_scored_them(config: ModelConfig, root: Path, version: str) -> None:
    """No skew: what the trainer itself predicted in its job, and the server on the lines of the raw file."""
    stored = Path("store", version_prefix(config.name, version), "parity.parquet")
    trainers = pq.read_table(root / stored, columns=["time", "prediction"])
    seconds = trainers["time"].to_pylist()
    predicted = dict(zip(seconds, trainers["prediction"].to_pylist(), strict=True))
    with gzip.open(root / "raw" / f"ds={version[:10]}" / "clicks.csv.gz", "rt", newline="") as file:
        lines = list(csv.DictReader(file))
    seen = collections.Counter(seconds) + collections.Counter(int(line["timestamp"]) for line in lines)
    rows = [
        line for line in lines if seen[int(line["timestamp"])] == 2
    ]  # a second that names one row in both
    expected = [predicted[int(line["timestamp"])] for line in rows]
    requests = [
        {name: value for name, value in line.items() if value and name != config.dataset.label}
        for line in rows
    ]
    assert len(rows) > 1900
    assert any(len(request) < len(lines[0]) - 1 for request in requests)  # some values are missing
    assert np.ptp(expected) > 0.2
    config = config.model_copy(update={"storage": Storage(url=f"file://{root / 'store'}")})
    with serving(config, root / "served") as server:
        code, found = server.post("/predict", {"rows": requests})
    assert (code, found["version"], found["rejected"]) == (200, version, [])
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5, rtol=0)


def test_every_file_and_command_of_the_tutorial_stands_in_a_block_that_is_run() -> None:
    """A command in an indented block, or in a fence of another kind, would never be tried."""
    text = TUTORIAL.read_text(encoding="utf-8")
    outside = BLOCK.sub("", text)
    assert not re.search(r"^(    )?\s*(persia|export|python) ", outside, re.MULTILINE)
    assert "```" not in outside
    assert {name for _, name, _ in BLOCK.findall(text) if name} == {"two_towers.py", "clicks.yaml"}
