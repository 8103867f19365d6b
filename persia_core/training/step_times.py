"""How long steps took, as a histogram."""

import time
from bisect import bisect_left
from typing import Any

from persia_core.monitoring.names import TRAINING_STEP_SECONDS

BOUNDS = TRAINING_STEP_SECONDS.buckets


class StepTimes:
    """Seconds from the end of a step to that of the next; of the first of a stretch, from its begin."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._since = time.monotonic()

    def begin(self) -> None:
        """A stretch begins: what was before, a cut perhaps, belongs to no step."""
        self._since = time.monotonic()

    def step(self) -> None:
        """A step has ended."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def to_dict(self) -> dict[str, Any]:
        """For metrics.json: `counts` of steps up to each of `bounds`, and above; their `sum` in seconds."""
        return {"bounds": list(BOUNDS), "counts": list(self._counts), "sum": round(self._sum, 6)}
