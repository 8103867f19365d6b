"""Two jobs on one run, what killed jobs leave, full and read-only disks, and a clock that jumps."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persia_core.config import ModelConfig, parse_config
from persia_core.exit_codes import ExitCode, is_retryable
from persia_core.handoff.layout import checkpoint_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.transfer import upload_parts
from persia_core.launch.ending import processes_of
from persia_core.phases import Phase
from tests.support import runs
from tests.support.crash import CrashJob, wait_until

pytestmark = pytest.mark.mpi

YESTERDAY, DS = "2026-11-01", "2026-11-02"
ROWS = 300


def configured(home: Path) -> ModelConfig:
    document = runs.small_config().model_dump(mode="json")
    document["storage"]["url"] = f"file://{home / 'store'}"
    document["cluster"]["heartbeat_timeout_s"] = 8.0
    return parse_config(document, "working files")


@pytest.fixture
def job(tmp_path: Path) -> CrashJob:
    """A run that starts from yesterday's checkpoint."""
    config = configured(tmp_path)
    store = LocalStore(tmp_path / "store")
    earlier = runs.make_day(config, store, YESTERDAY, rows=50)
    runs.make_day(config, store, DS, rows=ROWS, seed=1)
    directory = runs.make_run(config, earlier, tmp_path / "earlier" / "run-0") / "checkpoint"
    manifest = Manifest.from_bytes((directory / "manifest.json").read_bytes(), "earlier")
    upload_parts(store, checkpoint_prefix(config.name, YESTERDAY, "run-0"), directory, manifest)
    return CrashJob(tmp_path / "home", config, DS, "run")


def clean(home: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "persia_core.cli", "clean", *arguments],
        env={**os.environ, "PERSIA_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def files(home: Path) -> set[Path]:
    return {path for path in (home / "work").rglob("*") if path.is_file()}


def test_a_second_job_on_the_same_run_is_told_who_is_at_it(job: CrashJob, tmp_path: Path) -> None:
    config = configured(tmp_path)
    job.start(hold_at=Phase.LOAD, cold_start=True)
    job.wait_until_held()
    second = CrashJob(tmp_path / "home", config, DS, "run")
    before = files(tmp_path / "home")
    second.start(cold_start=True)
    outcome = second.finish()
    assert outcome.code == ExitCode.RUN_LOCKED and is_retryable(outcome.code)
    assert f"is being trained by process {job.pid} on " in outcome.said
    assert files(tmp_path / "home") == before, "it has changed something"
    job.go_on()
    assert job.finish().code == ExitCode.OK
    assert job.metrics()["rows_trained"] == ROWS
    second.start(cold_start=True)
    outcome = second.finish()
    assert outcome.code == ExitCode.OK and "finished already" in outcome.said
    assert clean(tmp_path / "home", "--yes")["leftovers"] == [], "a finished run is no leftover"
    assert job.parts()


def test_what_a_killed_job_left_is_shown_and_removed_and_nothing_of_a_living_one(
    job: CrashJob, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    job.start(hold_at=Phase.LOAD)
    job.wait_until_held()
    segments = job.segments()
    assert segments is not None and segments.is_dir()
    parents = list((home / "work" / "parents").iterdir())
    assert len(parents) == 1
    living = files(home)
    found = clean(home, "--yes")
    assert not {str(job.run_dir), str(segments), *map(str, parents)} & {x["path"] for x in found["leftovers"]}
    assert files(home) == living and segments.is_dir() and list(processes_of(job.run_dir))

    job.kill_command()
    job.finish()
    wait_until(lambda: not list(processes_of(job.run_dir)), "mpiexec ended its ranks")
    # Another job of this host may remove the segments first, as it should.
    expected = {str(job.run_dir), str(parents[0])}
    shown = clean(home)
    paths = {each["path"]: each for each in shown["leftovers"]}
    assert expected <= set(paths)
    assert str(segments) in paths or not segments.exists()
    assert shown["bytes_freed"] == 0 < shown["bytes"]
    assert paths[str(parents[0])]["bytes"] == sum(p.stat().st_size for p in parents[0].iterdir())
    assert files(home) >= {path for path in living if path.name == "manifest.json"}, "it was only shown"
    assert all(each["removed"] for each in clean(home, "--yes")["leftovers"] if each["path"] in expected)
    assert not job.run_dir.exists() and not parents[0].exists() and not segments.exists()
    assert not [each for each in clean(home)["leftovers"] if each["path"] in expected]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB; needs the right to mount one."""
    directory = tmp_path / "small"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(path: Path) -> None:
    """Take all the space there is."""
    with path.open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def test_a_disk_that_fills_up_in_training_is_named_and_the_next_try_works(
    job: CrashJob, tmp_path: Path, small_disk: Path
) -> None:
    on_small = CrashJob(small_disk / "home", configured(tmp_path), DS, "run", outside=tmp_path)
    on_small.start(hold_at=Phase.TRAIN, cold_start=True)
    on_small.wait_until_held()
    fill(small_disk / "ballast")
    on_small.go_on()
    outcome = on_small.finish()
    assert outcome.code == ExitCode.DISK_FULL, outcome.said[-3000:]
    assert str(small_disk) in outcome.said.splitlines()[-2]
    on_small.check_nothing_is_left()
    on_small.check_no_partial_checkpoint()
    (small_disk / "ballast").unlink()
    on_small.start(cold_start=True)
    assert on_small.finish().code == ExitCode.OK
    assert on_small.metrics()["rows_trained"] == ROWS


def test_a_directory_that_cannot_be_written_is_named(job: CrashJob, tmp_path: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    read_only = CrashJob(small_disk / "home", configured(tmp_path), DS, "run", outside=tmp_path)
    read_only.start(cold_start=True)
    outcome = read_only.finish()
    assert outcome.code == ExitCode.ENVIRONMENT
    error = outcome.said[outcome.said.index("error: ") :]
    assert str(small_disk) in error and "Read-only file system" in error and "PERSIA_HOME" in error


# For the time of day only; what runs evenly, CLOCK_MONOTONIC, is left alone.
JUMP = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long jump(void) { return access(getenv("JUMPS_WHEN"), F_OK) == 0 ? 3 * 3600 : 0; }
int clock_gettime(clockid_t clock, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, at);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) at->tv_sec += jump();
  return result;
}
time_t time(time_t *out) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (out) *out = at.tv_sec;
  return at.tv_sec;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"""


def test_a_jump_of_the_clock_ends_no_job(job: CrashJob, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library, jumped = tmp_path / "jump.c", tmp_path / "jump.so", tmp_path / "jumped"
    source.write_text(JUMP)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    shift = {"LD_PRELOAD": str(library), "JUMPS_WHEN": str(jumped)}
    job.start(hold_at=Phase.TRAIN, cold_start=True, environment=shift)
    job.wait_until_held()
    jumped.touch()
    job.go_on()
    outcome = job.finish()
    assert outcome.code == ExitCode.OK, outcome.said[-3000:]
    assert job.metrics()["rows_trained"] == ROWS
    times = re.findall(r"^(\d\d):(\d\d):(\d\d) ", outcome.said, re.MULTILINE)
    seconds = [3600 * int(hour) + 60 * int(minute) + int(second) for hour, minute, second in times]
    assert (seconds[-1] - seconds[0]) % 86_400 >= 3 * 3600, "the clock did not jump"
