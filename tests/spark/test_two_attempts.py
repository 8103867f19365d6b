"""Two attempts at one partition, each a process of its own: what is there in the end is whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from persia_core.exit_codes import ExitCode
from persia_core.handoff.manifest import sha256_file
from tests.spark.oracle import DOCUMENT
from tests.spark.support import DS, csv_bytes, local_store, published, random_rows

pytestmark = pytest.mark.spark


def _start(tmp_path: Path, home: str, config: Path) -> subprocess.Popen[str]:
    command = [Path(sys.executable).with_name("persia"), "hash", "--config", config, "--ds", DS]
    command += ["--result-file", tmp_path / f"{home}.json"]
    environment = os.environ | {"PERSIA_HOME": str(tmp_path / home)}
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)


def test_an_attempt_that_is_killed_and_two_at_once(tmp_path: Path) -> None:
    store = local_store(tmp_path / "store", {"a.csv": csv_bytes(random_rows(500, seed=31)) + b"too,few\n"})
    config = tmp_path / "model.yaml"
    config.write_text(json.dumps(DOCUMENT | {"storage": {"url": store.url}}))
    killed = _start(tmp_path, "killed", config)
    while not list((tmp_path / "killed").rglob("hash-*")):  # it has begun to work
        assert killed.poll() is None
    killed.kill()
    killed.communicate(timeout=60)

    attempts = [_start(tmp_path, name, config) for name in ("one", "two")]
    outputs = [attempt.communicate(timeout=300)[1] for attempt in attempts]
    assert [attempt.returncode for attempt in attempts] == [ExitCode.OK] * 2, outputs
    results = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two")]
    assert results[0]["digest"] == results[1]["digest"]
    manifest, table = published(store, tmp_path)
    assert manifest.digest == results[0]["digest"]
    assert table.num_rows == 500
    for part in manifest.parts:
        assert sha256_file(tmp_path / part.path) == part.sha256
    # Names carry the content, so equal attempts leave nothing beside the parts of the manifest.
    names = {info.key.rpartition("/")[2] for info in store.list("hashed/")}
    assert names == {"manifest.json", *(part.path for part in manifest.parts)}
