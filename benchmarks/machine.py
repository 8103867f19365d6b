"""What a figure must be read with: the machine, the commit, and what others did meanwhile."""

import os
import platform
import subprocess
import time
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]


def describe() -> str:
    """Processor, cores, memory and kernel, in one line."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    memory = psutil.virtual_memory().total / 2**30
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    pages = huge.read_text(encoding="utf-8").partition("[")[2].partition("]")[0] if huge.exists() else "none"
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, transparent huge pages {pages}"
    )


def commit() -> str:
    """The commit that is measured, with `+changes` if the working tree differs; `unknown` outside git."""

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", "-C", PROJECT, *arguments], capture_output=True, text=True, check=False
        )
        return result.stdout.strip() if result.returncode == 0 else ""

    head = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs")
    return (head or "unknown") + ("+changes" if changed else "")


def available_bytes() -> int:
    """Memory that can be taken without swapping."""
    return int(psutil.virtual_memory().available)


class Others:
    """Cores used by anybody but a process tree, over the life of the object."""

    def __init__(self, root: int | None = None) -> None:
        """`root`: the process id of the tree that is measured; the caller's by default."""
        self._root = psutil.Process(root)
        self._own = self._own_seconds()
        self._busy = _busy_seconds()
        self._start = time.monotonic()

    def cores(self) -> float:
        """Mean since construction; time that the hypervisor took away counts as used by others."""
        busy = _busy_seconds() - self._busy
        own = self._own_seconds() - self._own
        return max(0.0, (busy - own) / (time.monotonic() - self._start))

    def _own_seconds(self) -> float:
        total = 0.0
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total


def _busy_seconds() -> float:
    # idle and iowait are the only two in which a core does nothing; guest time is part of user.
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
