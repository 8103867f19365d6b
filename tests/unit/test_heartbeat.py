"""Heartbeats: who is silent, by whose clock, and that a busy rank goes on beating."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from persia_core.launch.heartbeat import HeartbeatWatch


class Clock:
    """Seconds, as the test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def beat(directory: Path, rank: int, count: int) -> None:
    (directory / str(rank)).write_text(f"{count}\n")


def test_a_rank_is_silent_when_its_number_has_not_changed_for_too_long(tmp_path: Path) -> None:
    clock = Clock()
    watch = HeartbeatWatch(tmp_path, 2, timeout_s=10.0, start_timeout_s=100.0, clock=clock)
    for count in range(4):
        clock.now += 9.0
        beat(tmp_path, 0, count)
        beat(tmp_path, 1, min(count, 2))
        watch.look()
        assert watch.silent() == []
    clock.now += 9.0
    beat(tmp_path, 0, 4)
    watch.look()
    assert watch.silent() == [1]
    beat(tmp_path, 1, 3)
    watch.look()
    assert watch.silent() == [], "it goes on"


def test_before_the_first_beat_another_limit_holds(tmp_path: Path) -> None:
    clock = Clock()
    watch = HeartbeatWatch(tmp_path, 2, timeout_s=10.0, start_timeout_s=100.0, clock=clock)
    clock.now += 99.0
    beat(tmp_path, 1, 1)
    watch.look()
    assert watch.silent() == []
    clock.now += 2.0
    watch.look()
    assert watch.silent() == [0]


def test_who_did_not_look_blames_nobody(tmp_path: Path) -> None:
    clock = Clock()
    watch = HeartbeatWatch(tmp_path, 1, timeout_s=10.0, start_timeout_s=10.0, clock=clock)
    beat(tmp_path, 0, 1)
    watch.look()
    clock.now += 3600.0  # the launcher itself was stopped
    beat(tmp_path, 0, 2)
    watch.look()
    assert watch.silent() == []


def test_the_longest_silent_comes_first(tmp_path: Path) -> None:
    clock = Clock()
    watch = HeartbeatWatch(tmp_path, 3, timeout_s=10.0, start_timeout_s=10.0, clock=clock)
    for rank in (2, 0, 1):
        clock.now += 1.0
        beat(tmp_path, rank, 1)
        watch.look()
    clock.now += 100.0
    watch.look()
    assert watch.silent() == [2, 0, 1]


BUSY = """
import itertools, sys
from persia_core.launch.heartbeat import begin_heartbeat
begin_heartbeat()
open(sys.argv[1], "w").close()
{work}
"""
HOLDS_THE_INTERPRETER = "max(itertools.count())"  # one call of C code that never lets another thread run


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_rank_that_holds_the_interpreter_lock_beats_and_a_stopped_one_does_not(tmp_path: Path) -> None:
    heart, ready = tmp_path / "heart", tmp_path / "ready"
    program = BUSY.format(work=HOLDS_THE_INTERPRETER)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(ready)], env={**os.environ, "PERSIA_HEARTBEAT": str(heart)}
    )
    try:
        wait_until(ready.exists)
        for _ in range(2):
            before = heart.read_bytes()
            wait_until(lambda before=before: heart.read_bytes() != before)  # type: ignore[misc]
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        stopped = heart.read_bytes()
        time.sleep(1.5)  # three beats; only a beat in that time can fail the test
        assert heart.read_bytes() == stopped
    finally:
        process.kill()
        process.wait()
