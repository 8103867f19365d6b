"""Runs one command, and ends everything it started when it ends or when its owner is gone.

    python -m persia_core.launch.guard COMMAND [ARGUMENT...]

Standard input is the life line: the owner holds the other end of the pipe and never writes to it. End of
file means that the owner closed it or died, whatever killed it. Then the command's process group gets
SIGTERM, and what is left after GRACE_S seconds gets SIGKILL. As a child subreaper (prctl(2)) the guard
inherits orphaned descendants, so that a process which left the group and lost its parent is found too.

The exit status is the command's own, 128 + n when signal n ended it.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType

import psutil

from persia_core.exit_codes import ExitCode

GRACE_S = 10.0  # for the command to end by itself after SIGTERM
LEFTOVER_GRACE_S = 3.0  # for processes that outlive the command: to end by themselves, then after SIGTERM
PR_SET_CHILD_SUBREAPER = 36


class _Stopped(Exception):
    """The guard itself was asked to end."""


def main(command: list[str]) -> int:
    """Run `command` under guard and return its exit status."""
    if not command:
        sys.stderr.write("usage: python -m persia_core.launch.guard COMMAND [ARGUMENT...]\n")
        return ExitCode.USAGE
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        owner_gone = not _wait(child)
    except _Stopped:
        owner_gone = True
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if owner_gone:
        # The owner may have taken the other end of our output with it.
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGTERM)
        _end_descendants(child, GRACE_S)
        return ExitCode.TERMINATED
    _wait_for_descendants(child, LEFTOVER_GRACE_S)  # a Java machine may need a moment after its client
    if leftovers := _descendants(child):
        names = ", ".join(sorted({f"{name} ({pid})" for pid, name in leftovers}))
        sys.stderr.write(f"guard: the command ended and left processes behind; ending them: {names}\n")
        for pid, _ in leftovers:
            _signal(pid, signal.SIGTERM)
        _end_descendants(child, LEFTOVER_GRACE_S)
    status = child.returncode
    return status if status >= 0 else 128 - status


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


def _wait(child: "subprocess.Popen[bytes]") -> bool:
    """Block until the command ends (True) or the life line breaks (False). Burns no processor time."""
    ended = os.pidfd_open(child.pid)
    try:
        while True:
            ready, _, _ = select.select([ended, 0], [], [])
            if ended in ready:
                child.wait()
                return True
            if not os.read(0, 4096):
                return False
    finally:
        os.close(ended)


def _descendants(child: "subprocess.Popen[bytes]") -> list[tuple[int, str]]:
    """(pid, name) of every living process below the guard; the dead among them are reaped."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.pid, process.name()))
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child.pid:
                child.returncode = os.waitstatus_to_exitcode(status)
    return found


def _wait_for_descendants(child: "subprocess.Popen[bytes]", limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while _descendants(child) and time.monotonic() < deadline:
        time.sleep(0.05)


def _end_descendants(child: "subprocess.Popen[bytes]", grace_s: float) -> None:
    _wait_for_descendants(child, grace_s)
    while leftovers := _descendants(child):
        for pid, _ in leftovers:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.02)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
