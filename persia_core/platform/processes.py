"""Starting processes that outlive this one, knowing them again later, and ending all of them.

A process id alone says nothing once the process is gone: the kernel gives it to somebody else. So a process
is known by its id and its start time. Its descendants are known by the session that it leads, or by the
marker in their environment: a descendant that leaves the session (a task's command does) still carries the
marker, and one whose process title was overwritten together with its environment is still in the session.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

MARKER = "PERSIA_PLATFORM_ID"
GRACE_S = 10.0  # between SIGTERM and SIGKILL


class Started(BaseModel):
    """A process we started: it leads a session of its own. `start_ticks` is field 22 of /proc/PID/stat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    pid: int
    start_ticks: int
    boot_id: str
    log: str


def start(name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Started:
    """Start `command` in a session of its own, its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    stat = _stat(process.pid)
    process.returncode = 0  # it is meant to outlive us: no ResourceWarning, no wait at exit
    return Started(
        name=name, pid=process.pid, start_ticks=stat[2] if stat else 0, boot_id=_boot_id(), log=str(log)
    )


def alive(process: Started) -> bool:
    """True while that very process runs (a zombie is not running)."""
    _reap(process.pid)
    stat = _stat(process.pid)
    return (
        stat is not None
        and stat[0] not in "ZX"
        and stat[2] == process.start_ticks
        and _boot_id() == process.boot_id
    )


def survivors(marker: str, processes: Iterable[Started]) -> dict[int, str]:
    """{pid: command line} of every running process that belongs to the platform `marker`."""
    wanted = f"{MARKER}={marker}".encode()
    sessions = {p.pid for p in processes if p.boot_id == _boot_id() and not _replaced(p)}
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        pid = int(entry.name)
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            continue
        with contextlib.suppress(OSError):
            if stat[1] in sessions or wanted in (entry / "environ").read_bytes().split(b"\0"):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found[pid] = line
    return found


def end(marker: str, processes: Sequence[Started], grace_s: float = GRACE_S) -> dict[int, str]:
    """End the processes and all their descendants; returns those that even SIGKILL did not end.

    SIGTERM goes to the leader of each session first (a leader that dies before its children would leave
    them to be told one by one), then to every other survivor, then SIGKILL after `grace_s` seconds.
    """
    for process in processes:
        if alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    told: set[int] = set()
    while (left := survivors(marker, processes)) and time.monotonic() < deadline:
        if not any(alive(process) for process in processes):
            for pid in left.keys() - told:
                _kill(pid, signal.SIGTERM)
                told.add(pid)
        time.sleep(0.1)
    deadline = time.monotonic() + grace_s
    while (left := survivors(marker, processes)) and time.monotonic() < deadline:
        for pid in left:
            _kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    for process in processes:
        _reap(process.pid)
    return left


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _replaced(process: Started) -> bool:
    """True if another process leads a session under that id now. While any member of the old session

    lives, the kernel does not give its id away, so another leader means that the session is empty.
    """
    stat = _stat(process.pid)
    return stat is not None and stat[2] != process.start_ticks


def _stat(pid: int) -> tuple[str, int, int] | None:
    """(state, session, start time in clock ticks) of a process, or None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name in parentheses may hold spaces
    return fields[0], int(fields[3]), int(fields[19])


def _reap(pid: int) -> None:
    """Collect a dead child when `up` and `down` run in one process, as in a test."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
