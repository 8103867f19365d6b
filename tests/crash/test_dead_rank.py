"""A rank that dies or hangs ends the job with its name, leaves nothing behind, and the next run works."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from persia_core.config import ModelConfig
from persia_core.config.features import EmbeddingTable
from persia_core.errors import DiskFull, PersiaError, RankFailed, RankHung
from persia_core.exit_codes import ExitCode
from persia_core.launch.ending import processes_of
from persia_core.launch.rank_process import last_lines, rank_processes
from persia_core.launch.segments import remove_abandoned
from tests.integration.test_oracle import every_kind
from tests.integration.test_training import changed
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_rows
from tests.support.training import TrainingPlace

pytestmark = pytest.mark.mpi

DS = "2026-01-01"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingPlace:
    return TrainingPlace(tmp_path, monkeypatch)


def slow(seconds: float) -> ModelConfig:
    model = {
        "mode": "hybrid",
        "model": "tests.support.models:Slow",
        "model_args": {"seconds": seconds},
    }
    return changed(every_kind("sgd"), training=model, cluster={"servers": 1, "trainers": 2})


def segments_of(run_dir: Path) -> Path:
    """Where the ranks of a running job have their shared memory."""
    name = b"OMPI_MCA_btl_sm_backing_directory="
    for pid in processes_of(run_dir):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(name):
                return Path(entry.removeprefix(name).decode())
    raise AssertionError("no rank has a directory for its shared memory")


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass within two minutes"
        time.sleep(0.05)


def pid_of(run_dir: Path, role: str) -> int:
    """The process of the rank that is `role`, of its parent, or of mpiexec."""
    if role == "mpiexec":
        return psutil.Process(psutil.Process(rank_processes(run_dir)[0].pid).ppid()).ppid()
    if role.startswith("the parent of "):
        return psutil.Process(pid_of(run_dir, role.removeprefix("the parent of "))).ppid()
    return next(each.pid for each in rank_processes(run_dir) if each.role == role)


def signal_when_training(run_dir: Path, role: str, number: signal.Signals) -> threading.Thread:
    """Send `number` to one process of the job once training has begun."""

    def wait_and_signal() -> None:
        log = run_dir / "job.log"
        wait_until(lambda: log.exists() and "training:" in log.read_text())
        os.kill(pid_of(run_dir, role), number)

    thread = threading.Thread(target=wait_and_signal)
    thread.start()
    return thread


def one_of_each_role(workers: int) -> ModelConfig:
    cluster = {"embedding_workers": workers, "heartbeat_timeout_s": 8.0}
    return changed(slow(seconds=0.2), cluster=cluster)


def check_nothing_is_left(run_dir: Path) -> None:
    assert not list(processes_of(run_dir)), "a process of the job was left behind"
    assert not (run_dir / "checkpoint" / "manifest.json").exists()


def check_the_next_run_works(place: TrainingPlace, config: ModelConfig) -> None:
    """Of some cases: tests/crash/test_kill_matrix.py tries again after each of its own."""
    quick = changed(config, training={"model_args": {"seconds": 0.0}})
    assert (place.train(quick, DS) / "checkpoint" / "manifest.json").exists()


HOST = socket.gethostname()
KILLED = f"on {HOST} was ended by signal 9 (SIGKILL)"


@pytest.mark.parametrize(
    ("role", "workers", "what"),
    [
        ("embedding server 0", 0, f"embedding server 0 (rank 0) {KILLED}"),
        ("trainer 1", 0, f"trainer 1 (rank 2) {KILLED}"),
        ("embedding worker 0", 1, f"embedding worker 0 (rank 1) {KILLED}"),
        ("the parent of trainer 0", 0, "trainer 0 (rank 1) was ended by signal 9"),
        ("mpiexec", 0, f"mpiexec of job small-{DS}-run was ended by signal 9"),
    ],
)
def test_a_killed_rank_ends_the_job_with_its_name(
    place: TrainingPlace, caplog: pytest.LogCaptureFixture, role: str, workers: int, what: str
) -> None:
    config = one_of_each_role(workers)
    write_hashed_partition(config, place.store, DS, small_rows(64 * 100))
    run_dir = place.home / "home" / "work" / config.name / f"ds={DS}" / "run"
    killer = signal_when_training(run_dir, role, signal.SIGKILL)
    with pytest.raises(RankFailed) as caught:
        place.train(config, DS)
    killer.join()
    assert caught.value.what == what
    assert caught.value.role == (None if role == "mpiexec" else role.removeprefix("the parent of "))
    if role in (each.role for each in rank_processes(run_dir)):
        said = last_lines(run_dir, role)
        shown = caplog.messages[-1].splitlines()
        expected = [f"  | {line}" for line in said] or [f"{role} has said nothing"]
        assert shown[-len(expected) :] == expected
    check_nothing_is_left(run_dir)
    if role in ("trainer 1", "mpiexec"):
        check_the_next_run_works(place, config)


@pytest.mark.parametrize(
    ("role", "workers", "rank"),
    [("embedding server 0", 0, 0), ("embedding worker 0", 1, 1), ("trainer 0", 0, 1), ("trainer 1", 1, 3)],
)
def test_a_stopped_rank_ends_the_job_with_its_name(
    place: TrainingPlace, caplog: pytest.LogCaptureFixture, role: str, workers: int, rank: int
) -> None:
    config = one_of_each_role(workers)
    write_hashed_partition(config, place.store, DS, small_rows(64 * 100))
    run_dir = place.home / "home" / "work" / config.name / f"ds={DS}" / "run"
    killer = signal_when_training(run_dir, role, signal.SIGSTOP)
    with pytest.raises(RankHung) as caught:
        place.train(config, DS)
    killer.join()
    assert caught.value.what.startswith(f"{role} (rank {rank}) on {HOST} hangs: no sign of life for ")
    assert "is stopped (SIGSTOP)" in caught.value.what
    assert caught.value.role == role
    if role == "trainer 0":
        assert any("training:" in line for line in caplog.messages[-1].splitlines()), "its last lines"
    check_nothing_is_left(run_dir)
    if role == "embedding worker 0":
        check_the_next_run_works(place, config)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_ending_the_command_ends_its_job(place: TrainingPlace, number: signal.Signals, code: int) -> None:
    config = slow(seconds=0.2)
    write_hashed_partition(config, place.store, DS, small_rows(64 * 100))
    file = place.home / "model.yaml"
    document = config.model_dump(mode="json")
    document["storage"]["url"] = f"file://{place.home / 'store'}"
    file.write_text(json.dumps(document))  # JSON is YAML
    command = [sys.executable, "-m", "persia_core.cli", "train", "--config", str(file), "--ds", DS]
    process = subprocess.Popen([*command, "--run", "run", "--cold-start"], stderr=subprocess.DEVNULL)
    run_dir = place.home / "home" / "work" / config.name / f"ds={DS}" / "run"
    log = run_dir / "job.log"
    wait_until(lambda: log.exists() and "training:" in log.read_text())
    assert len(list(processes_of(run_dir))) >= 4, "mpiexec, a server and two trainers"
    segments = segments_of(run_dir)
    remove_abandoned()
    assert segments.is_dir(), "another job has removed what is in use"
    assert list(segments.glob("ompi.*")), "mpiexec keeps its session elsewhere"
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    wait_until(lambda: not list(processes_of(run_dir)))
    remove_abandoned()
    assert not segments.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; needs the right to mount one."""
    directory = tmp_path / "small"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_full_disk_during_save_is_named_and_the_next_run_works(
    place: TrainingPlace, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = every_kind("adagrad")
    tables = [{**table.model_dump(), "dim": 1024} for table in config.tables]
    wide = config.model_copy(update={"tables": [EmbeddingTable(**table) for table in tables]})
    write_hashed_partition(wide, place.store, DS, small_rows(2000))
    usual = os.environ["PERSIA_HOME"]
    monkeypatch.setenv("PERSIA_HOME", str(small_disk / "home"))
    with pytest.raises(PersiaError, match="no space left") as caught:
        place.train(wide, DS)
    assert caught.value.exit_code == ExitCode.DISK_FULL == DiskFull.exit_code
    assert not list(small_disk.rglob("checkpoint/manifest.json"))
    assert not list(small_disk.rglob("embedding-*.safetensors*")), "a half-written part was left"
    monkeypatch.setenv("PERSIA_HOME", usual)
    assert (place.train(wide, DS) / "checkpoint" / "manifest.json").exists()
