"""Waiting for a condition, and for processes to be gone."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil


def wait_for(condition: Callable[[], Any], what: str, limit_s: float = 120.0) -> Any:
    """The first true value of `condition`; AssertionError naming `what` when it stays false."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not in {limit_s:.0f} s")


def gone(pids: Iterable[int]) -> bool:
    """True if none of the processes runs (a zombie does not)."""

    def running(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    return not any(running(pid) for pid in pids)
