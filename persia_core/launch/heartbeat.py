"""Watching the heartbeats of a job's ranks.

A rank counts a number up in a file, twice a second, from a thread of its own that needs neither the
interpreter nor the rest of the rank (native/include/persia/heartbeat.h). So a rank that computes, saves or
collects garbage for long goes on beating, and one that is stopped does not. Whoever watches looks at
nothing but whether the number has changed, and at its own monotonic clock: the time of day may jump.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from persia_core.launch.rank_parent import HEARTBEAT_VARIABLE

_kept: list[object] = []


def begin_heartbeat() -> None:
    """Let this process beat from now to its end, if its parent has named a file for that."""
    from persia_core import _native

    if (path := os.environ.get(HEARTBEAT_VARIABLE)) and not _kept:
        _kept.append(_native.Heartbeat(path))


class HeartbeatWatch:
    """When each rank was last seen to be alive."""

    def __init__(
        self,
        directory: Path,
        ranks: int,
        timeout_s: float,
        start_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout_s` between two beats, `start_timeout_s` before the first; `clock` in seconds."""
        self._directory = directory
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._clock = clock
        self._seen: list[tuple[bytes, float]] = [(b"", clock())] * ranks

    def look(self) -> None:
        """Read all heartbeats. Time in which nobody looked counts against no rank that has gone on."""
        for rank, (before, _) in enumerate(self._seen):
            beat = self._read(rank)
            if beat != before:
                self._seen[rank] = (beat, self._clock())

    def has_begun(self, rank: int) -> bool:
        return self._seen[rank][0] != b""

    def last_seen(self, rank: int) -> float:
        """When the rank was last seen to have beaten, or the watch began, by `clock`."""
        return self._seen[rank][1]

    def silent(self) -> list[int]:
        """The ranks whose time is over, the one that was silent longest first."""
        now = self._clock()
        late = [
            rank
            for rank, (beat, at) in enumerate(self._seen)
            if now - at > (self._timeout_s if beat else self._start_timeout_s)
        ]
        return sorted(late, key=self.last_seen)

    def _read(self, rank: int) -> bytes:
        try:
            return (self._directory / str(rank)).read_bytes()
        except FileNotFoundError:
            return b""
