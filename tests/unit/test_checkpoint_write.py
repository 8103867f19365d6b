"""A save that is cut short anywhere leaves no manifest, so nobody takes what it left for a checkpoint."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from persia_core import _native
from persia_core.checkpoint.write import Contents, write_checkpoint
from persia_core.embedding.tables import feature_specs, table_specs
from tests.support.small_config import small_config

CONFIG = small_config()
SERVERS = CONFIG.cluster.servers
LINEAGE = {"dataset": "clicks", "ds": "2026-01-01", "parent": None, "hashed_digest": "0" * 64}


class Killed(BaseException):
    """Like a killed process: nothing that handles errors sees it."""


class CutShort:
    """A real worker, network or optimizer that dies before or after the call that saves its part."""

    def __init__(self, real: Any, call: str, after: bool) -> None:
        self._real, self._call, self._after = real, call, after

    def __getattr__(self, name: str) -> Any:
        found: Callable[..., Any] = getattr(self._real, name)
        if name != self._call:
            return found

        def dying(*arguments: Any) -> Any:
            if self._after:
                found(*arguments)
            raise Killed

        return dying


def saving() -> dict[str, Any]:
    worker = _native.EmbeddingWorker(
        transport="in-process",
        servers=SERVERS,
        tables=table_specs(CONFIG),
        features=feature_specs(CONFIG),
        trainer=0,
        trainers=1,
        staleness=1,
        combine=False,
        seed=1,
        timeout_s=20.0,
    )
    worker.configure()
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters())
    return {"worker": worker, "model": model, "optimizer": optimizer}


def write(run_dir: Path, worker: Any, model: Any, optimizer: Any) -> None:
    contents = Contents(model, optimizer, {"step": 7}, {"random.0.torch_cpu": torch.get_rng_state()})
    write_checkpoint(CONFIG, run_dir / "checkpoint", "checkpoint", LINEAGE, worker, contents, {})


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("part", "call"), [("worker", "save"), ("model", "state_dict"), ("optimizer", "state_dict")]
)
def test_a_save_cut_short_leaves_no_manifest(tmp_path: Path, part: str, call: str, after: bool) -> None:
    parts = saving()
    parts[part] = CutShort(parts[part], call, after)
    with pytest.raises(Killed):
        write(tmp_path, **parts)
    assert not list(tmp_path.rglob("manifest.json"))


def test_the_manifest_of_a_whole_save_lists_every_file_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, **saving())
    directory = tmp_path / "checkpoint"
    listed = {
        part["path"]: (part["size"], part["sha256"])
        for part in json.loads((directory / "manifest.json").read_bytes())["parts"]
    }
    found = {
        path.name: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in directory.iterdir()
        if path.name != "manifest.json"
    }
    assert listed == found
    assert {f"embedding-{server}.safetensors" for server in range(SERVERS)} < set(found)
