"""Locks on directories: real processes hold them."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from persia_core.launch.directory_lock import LOCK, Locked, empty, is_locked, locked, shared

HOLD = """
import sys, time
from pathlib import Path
from persia_core.launch.directory_lock import locked, shared
with {how}(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(directory: Path, how: str = "locked") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLD.format(how=how), str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_the_second_is_told_who_holds_it_until_that_one_ends(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there" / "yet"
    before = time.time()
    process = holder(directory)
    try:
        assert is_locked(directory)
        with pytest.raises(Locked) as caught, locked(directory):
            raise AssertionError("both hold it")
        found = caught.value.holder
        assert found is not None
        assert (found.pid, found.host) == (process.pid, socket.gethostname())
        assert before - 1 <= found.since.timestamp() <= time.time() + 1
    finally:
        end(process)
    assert not is_locked(directory)
    with locked(directory):
        assert is_locked(directory)
    assert not is_locked(directory)


def test_who_holds_it_may_not_be_known_yet(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        os.truncate(tmp_path / LOCK, 0)
        with pytest.raises(Locked) as caught, locked(tmp_path):
            pass
        assert caught.value.holder is None
    finally:
        end(process)


def test_the_last_of_several_users_removes_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "parent"
    process = holder(directory, "shared")
    try:
        with shared(directory):
            (directory / "part").write_text("x")
        assert (directory / "part").exists(), "the other one still uses it"
    finally:
        end(process)
    assert (directory / "part").exists(), "it was killed"
    with shared(directory):
        pass
    assert not directory.exists()


def test_a_directory_that_was_removed_while_it_was_waited_for_is_made_anew(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    for _ in range(3):
        with shared(directory):
            assert is_locked(directory)
        assert not directory.exists()


def test_what_is_emptied_stays_locked(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    run = tmp_path / "run"
    with locked(run):
        (run / "folder").mkdir()
        (run / "folder" / "file").touch()
        (run / "file").touch()
        (run / "link").symlink_to(outside)
        empty(run)
        assert [path.name for path in run.iterdir()] == [LOCK]
        assert is_locked(run)
    assert (outside / "file").exists()
