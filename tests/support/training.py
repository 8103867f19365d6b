"""Running the real training stage in a temporary directory."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from persia_core.config import ModelConfig, parse_config
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.object_store import ObjectStore
from persia_core.launch.train import train_partition

ROOT = Path(__file__).parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"


def shipped_config(name: str, **sections: dict[str, Any]) -> ModelConfig:
    """configs/<name>.yaml with keys of its sections replaced."""
    document = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    for section, changes in sections.items():
        document[section] = {**document.get(section, {}), **changes}
    return parse_config(document, name)


class TrainingPlace:
    """A home and a store of its own for one test."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PERSIA_HOME", str(home / "home"))
        self.home = home
        self.store: ObjectStore = LocalStore(home / "store")

    def train(self, config: ModelConfig, ds: str, run: str = "run", cold_start: bool = True) -> Path:
        """Run the MPI job of one partition; returns the run directory."""
        return Path(train_partition(config, self.store, ds, run, cold_start).run_dir)
