"""The daily retrain under a real scheduler, from raw clicks over HTTP to the champion pointer."""

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from persia_core.config import ModelConfig, load_config
from persia_core.data.raw import land_partition
from persia_core.data.synthetic import synthesize
from persia_core.demo.airflow_client import AirflowClient
from persia_core.errors import PersiaError
from persia_core.handoff.consume import pick_up
from persia_core.handoff.object_store import ObjectStore, open_store
from persia_core.handoff.pointer import CHAMPION, read_pointer
from persia_core.platform import Platform, down, up

ROOT = Path(__file__).parents[2]
DAG = "daily_retrain"
LIMIT_S = 300.0


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform of its own over this checkout's DAGs."""
    monkeypatch.setenv("PERSIA_PROJECT", str(ROOT))
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    started = up()
    for name, value in started.env.items():
        monkeypatch.setenv(name, value)
    yield started
    down()


class Story:
    """Triggers days and says who is champion."""

    def __init__(self, platform: Platform) -> None:
        self.config: ModelConfig = load_config(ROOT / "configs" / "synthetic_dlrm.yaml")
        self.store: ObjectStore = open_store(self.config.storage)
        self.airflow = AirflowClient(platform.airflow_url, platform.home, DAG)
        self.airflow.wait_for_dag()

    def run(self, ds: str, run_id: str, cold_start: bool = False) -> str:
        """Run a day to its end; returns the version it published."""
        params = {"cold_start": cold_start, "config": "configs/synthetic_dlrm.yaml"}
        self.airflow.trigger(run_id, ds, params)
        self.airflow.wait(run_id, LIMIT_S, print)
        return str(self.airflow.result(run_id, "publish")["version"])

    def champion(self) -> str | None:
        found = read_pointer(self.store, self.config.name, CHAMPION)
        return found[0].version if found else None


@pytest.mark.airflow
@pytest.mark.spark
@pytest.mark.mpi
def test_days_become_champions_and_a_bad_day_does_not(platform: Platform, tmp_path: Path) -> None:
    story = Story(platform)
    first, second, third = synthesize(tmp_path / "raw", 3000, 3, seed=5, first_day_rows=6000)
    for day in (first, second):
        land_partition(story.store, story.config.dataset.name, day.ds, [day.path])

    bootstrap = story.run(first.ds, "first", cold_start=True)
    assert story.champion() == bootstrap
    version = story.run(second.ds, "second")
    assert story.champion() == version
    assert version.startswith(second.ds)

    # What serving picks up is that version, and it was evaluated on its day before training on it.
    picked = pick_up(story.store, story.config.name, tmp_path / "picked")
    assert picked.version == version
    metrics = picked.manifest.metrics
    assert metrics["before"]["rows"] == metrics["rows_in"] == metrics["rows_trained"] == 3000
    assert picked.manifest.lineage.parent == bootstrap

    # A label outside {0, 1} fails the day by name, at once, and the champion stays.
    bad = tmp_path / third.path.name
    lines = gzip.decompress(third.path.read_bytes()).decode().splitlines()
    place = lines[0].split(",").index(story.config.dataset.label)
    fields = lines[7].split(",")
    fields[place] = "2"
    bad.write_bytes(gzip.compress("\n".join([*lines[:7], ",".join(fields), *lines[8:], ""]).encode()))
    land_partition(story.store, story.config.dataset.name, third.ds, [bad])
    with pytest.raises(PersiaError, match="hash_features") as caught:
        story.run(third.ds, "third_bad")
    assert "label" in str(caught.value)
    assert story.champion() == version

    # The same day with the file mended works.
    shutil.copy(third.path, bad)
    land_partition(story.store, story.config.dataset.name, third.ds, [bad])
    assert story.run(third.ds, "third") == story.champion() != version
