"""Ending all processes of a job."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from persia_core.phases import RUN_DIR_VARIABLE

MPIEXEC_ENDS_WITHIN_S = 4.0
RANKS_END_WITHIN_S = 3.0  # with the above, and what it takes to look around: below ten seconds


def end_job(process: "subprocess.Popen[str]", run_dir: Path) -> None:
    """End mpiexec, then whatever still carries the run directory in its environment.

    SIGTERM comes first, so that ranks and mpiexec can say what they have to; a process that is stopped
    heeds nothing but SIGKILL. On return no process of the job is left on this host.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=MPIEXEC_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    end_survivors(run_dir)


def end_survivors(run_dir: Path) -> set[int]:
    """End what carries the run directory in its environment; returns the processes that did.

    They outlive a launcher that was killed together with mpiexec, for as long as they take to end. A retry
    must not begin before: they write to the run directory and to the same segments.
    """
    found: set[int] = set()
    deadline = time.monotonic() + RANKS_END_WITHIN_S
    while survivors := list(processes_of(run_dir)):
        found.update(survivors)
        late = time.monotonic() > deadline
        for pid in survivors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.1)
    return found


def processes_of(run_dir: Path) -> Iterator[int]:
    """Live processes of this host that were started for the job of `run_dir`, except the caller."""
    marker = f"{RUN_DIR_VARIABLE}={run_dir}".encode()
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        try:
            if marker in (directory / "environ").read_bytes().split(b"\0"):
                yield int(directory.name)
        except OSError:
            continue  # it has ended, or is not ours
