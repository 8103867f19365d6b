"""The daily retrain under a real scheduler, from raw clicks over HTTP to the champion pointer."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from persia_core.airflow import names
from persia_core.config import ModelConfig, load_config
from persia_core.data.raw import land_partition
from persia_core.data.synthetic import synthesize
from persia_core.demo.airflow_client import AirflowClient
from persia_core.errors import PersiaError
from persia_core.handoff.consume import pick_up
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore, open_store
from persia_core.handoff.pointer import CHAMPION, read_pointer
from persia_core.launch import supervise
from persia_core.platform import Platform, down, services, up
from persia_core.platform.processes import start
from persia_core.platform.state import load_state
from tests.support.waiting import gone, wait_for

ROOT = Path(__file__).parents[2]
MODEL = "synthetic_dlrm"
DAG = names.daily_retrain(MODEL)
LIMIT_S = 900.0
# A new scheduler looks every few seconds whether another one is dead, and not every five minutes. When one is
# dead is decided as in production: with a threshold near the interval of heartbeats it declares itself dead.
TAKE_OVER = {"AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5"}


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform of its own over a copy of this checkout's DAGs and configurations."""
    project = tmp_path / "project"
    for folder in ("dags", "configs"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PERSIA_PROJECT", str(project))
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    started = up()
    for name, value in started.env.items():
        monkeypatch.setenv(name, value)
    yield started
    down()


class Story:
    """Triggers days and says what became of them."""

    def __init__(self, platform: Platform, root: Path) -> None:
        self.home = platform.home
        self.file = root / "project" / "configs" / f"{MODEL}.yaml"
        self.config: ModelConfig = load_config(self.file)
        self.store: ObjectStore = open_store(self.config.storage)
        self.airflow = AirflowClient(platform.airflow_url, platform.home, DAG)
        self.airflow.wait_for_dag()
        self.consumer = AirflowClient(platform.airflow_url, platform.home, f"example_consumer_{MODEL}")
        self.consumer.wait_for_dag()

    def land(self, ds: str, path: Path) -> None:
        land_partition(self.store, self.config.dataset.name, ds, [path])

    def start(self, ds: str, run_id: str, **params: Any) -> None:
        self.airflow.trigger(run_id, ds, params)

    def backfill_backwards(self, first: str, last: str) -> None:
        """As documented for people: Airflow's own command, all days at once, the last one first."""
        state = load_state()
        assert state is not None
        command = [*("backfill", "create", "--dag-id", DAG, "--max-active-runs", "2", "--run-backwards")]
        command += ["--from-date", first, "--to-date", f"{last}T23:59"]
        environment = services.airflow_environment(state)
        program = [sys.executable, "-m", "airflow"]
        done = subprocess.run(
            [*program, *command],
            env=environment,
            cwd=state.project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def finish(self, run_id: str) -> str:
        """Wait for a run to end well; returns the version it published."""
        self.airflow.wait(run_id, LIMIT_S, print)
        return str(self.airflow.result(run_id, names.PUBLISH)["version"])

    def reach(self, run_id: str, task: str, state: str) -> None:
        def reached() -> bool:
            states = self.airflow.task_states(run_id)
            assert "failed" not in states.values(), states
            return states.get(task) == state

        wait_for(reached, f"{task} of {run_id} {state}", LIMIT_S)

    def champion(self) -> str | None:
        found = read_pointer(self.store, self.config.name, CHAMPION)
        return found[0].version if found else None

    def parent(self, version: str) -> str | None:
        return read_version(self.store, self.config.name, version).manifest.lineage.parent

    def log(self, run_id: str, task: str) -> str:
        """What all tries of a task wrote."""
        folder = self.home / "airflow" / "logs" / f"dag_id={DAG}" / f"run_id={run_id}" / f"task_id={task}"
        return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.log")))


def _job_processes() -> list[int]:
    """The supervisor of a training job on this platform, and everything below it."""
    marker = load_state()
    assert marker is not None
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("PERSIA_PLATFORM_ID") == marker.id
            if ours and supervise.__name__ in process.cmdline():
                return [process.pid, *(child.pid for child in process.children(recursive=True))]
        except psutil.Error:
            continue
    return []


def _trains() -> list[int]:
    """Those processes, once an MPI job is among them."""
    found = _job_processes()
    names_of = [psutil.Process(pid).name() for pid in found if psutil.pid_exists(pid)]
    return found if any(name in ("mpiexec", "prterun") for name in names_of) else []


def _kill_scheduler(platform: Platform) -> None:
    """End the scheduler with its workers and their tasks, as a dying container does, and start another one.

    A training job leads a session of its own and goes on.
    """
    scheduler = platform.processes["scheduler"]
    session = os.getsid(scheduler)
    victims = [scheduler, *(child.pid for child in psutil.Process(scheduler).children(recursive=True))]
    for pid in victims:
        if psutil.pid_exists(pid) and os.getsid(pid) == session:
            os.kill(pid, signal.SIGKILL)
    state = load_state()
    assert state is not None
    command = services.airflow_command("scheduler", state)
    environment = services.airflow_environment(state) | TAKE_OVER
    start("scheduler", command, environment, Path(state.project), platform.home / "logs" / "scheduler-2.log")


def _with_bad_label(source: Path, target: Path, label: str) -> None:
    lines = gzip.decompress(source.read_bytes()).decode().splitlines()
    place = lines[0].split(",").index(label)
    fields = lines[7].split(",")
    fields[place] = "2"
    target.write_bytes(gzip.compress("\n".join([*lines[:7], ",".join(fields), *lines[8:], ""]).encode()))


@pytest.mark.airflow
@pytest.mark.spark
@pytest.mark.mpi
@pytest.mark.timeout(3600)
def test_a_model_through_good_and_bad_days(platform: Platform, tmp_path: Path) -> None:  # noqa: PLR0915
    """One story, because every start costs many seconds: see the lines that begin a chapter."""
    story = Story(platform, tmp_path)
    days = synthesize(tmp_path / "raw", 3000, 6, seed=5, first_day_rows=6000)
    first, second, third, fourth, fifth, sixth = days
    for day in (first, second, third):
        story.land(day.ds, day.path)
    story.start(first.ds, "first", cold_start=True)
    bootstrap = story.finish("first")
    assert story.champion() == bootstrap

    # A backfill of two days at once, the later one first, and the scheduler dies while the earlier one
    # trains: each is one job, and they follow each other.
    story.backfill_backwards(second.ds, third.ds)
    runs = story.airflow.backfilled()
    assert sorted(runs) == [second.ds, third.ds]
    wait_for(_trains, "an MPI job", LIMIT_S)
    _kill_scheduler(platform)
    versions = [bootstrap, story.finish(runs[second.ds]), story.finish(runs[third.ds])]
    assert [story.parent(version) for version in versions] == [None, *versions[:2]]
    assert story.champion() == versions[2]
    for run_id in runs.values():
        assert story.log(run_id, names.MPI_JOB).count("supervised by process") == 1
    interrupted = story.log(runs[second.ds], names.MPI_JOB)
    assert "running already" in interrupted or "succeeded already" in interrupted

    # What serving picks up is that version, and it was evaluated on its day before training on it.
    picked = pick_up(story.store, story.config.name, tmp_path / "picked")
    assert picked.version == versions[2]
    metrics = picked.manifest.metrics
    assert metrics["before"]["rows"] == metrics["rows_in"] == metrics["rows_trained"] == 3000

    # The consumer has run for each champion, with its day and its version.
    def shown() -> list[str]:
        runs = story.consumer.run_ids()
        done = [run for run in runs if story.consumer.run_state(run) == "success"]
        return sorted(story.consumer.result(run, "show_champion")["version"] for run in done)

    wait_for(lambda: shown() == versions, "the consumer's runs", LIMIT_S)

    # A label outside {0, 1} fails the day by name, at once; the champion stays, and the next day waits.
    bad = tmp_path / fourth.path.name
    _with_bad_label(fourth.path, bad, story.config.dataset.label)
    story.land(fourth.ds, bad)
    story.land(fifth.ds, fifth.path)
    story.start(fourth.ds, "fourth")
    with pytest.raises(PersiaError, match=names.HASH_FEATURES):
        story.finish("fourth")
    reason = story.airflow.result("fourth", names.HASH_FEATURES, "failure")
    assert reason["name"] == "DATA_INVALID"
    assert "label" in reason["what"]
    story.start(fifth.ds, "fifth")
    story.reach("fifth", names.WAIT_FOR_TURN, "deferred")
    assert story.champion() == versions[2]

    # The same day with the file mended works, and the one that waited goes on by itself.
    shutil.copy(fourth.path, bad)
    story.land(fourth.ds, bad)
    story.airflow.clear("fourth", [names.HASH_FEATURES])
    versions += [story.finish("fourth"), story.finish("fifth")]
    assert [story.parent(version) for version in versions] == [None, *versions[:-1]]
    assert story.champion() == versions[-1]

    # The whole day again: the same data, start and configuration are the same version.
    story.airflow.clear("fifth")
    assert story.finish("fifth") == versions[-1] == story.champion()

    # A task that is failed in the UI takes its job along; cleared, it trains. Then the gate refuses the
    # model.
    story.file.write_text(story.file.read_text() + "\ngates: {min_auc: 0.999}\n")
    story.land(sixth.ds, sixth.path)
    story.start(sixth.ds, "sixth")
    pids = wait_for(_trains, "an MPI job", LIMIT_S)
    story.airflow.fail_task("sixth", names.MPI_JOB)
    wait_for(lambda: gone(pids) and not _job_processes(), f"the end of {pids}")
    with pytest.raises(PersiaError, match=names.MPI_JOB):
        story.finish("sixth")
    story.airflow.clear("sixth", [names.MPI_JOB])
    with pytest.raises(PersiaError, match=names.VALIDATE_MODEL):
        story.finish("sixth")
    assert story.airflow.result("sixth", names.VALIDATE_MODEL, "failure")["name"] == "GATE_REFUSED"
    assert story.airflow.task_states("sixth")[names.CLEAN_UP] == "success"
    assert story.champion() == versions[-1]
