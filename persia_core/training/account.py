"""Where every sample went: rows in = rows trained + rows skipped, by reason."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NON_FINITE = "non_finite_gradient"


class Account:
    """Counts of one run. A row counts as skipped if any of its visits (one per epoch) was skipped."""

    def __init__(self, rows: int, steps: int, epochs: int) -> None:
        self.rows = rows
        self.steps = steps
        self.epochs = epochs
        self.steps_done = 0
        self.visits_trained = 0
        self.visits_skipped = 0
        self.losses: list[tuple[int, float]] = []
        self._skipped: dict[str, NDArray[np.int64]] = {}

    def trained(self, rows: NDArray[np.int64]) -> None:
        self.steps_done += 1
        self.visits_trained += rows.size

    def skipped(self, rows: NDArray[np.int64], reason: str) -> None:
        self.steps_done += 1
        self.visits_skipped += rows.size
        known = self._skipped.get(reason, np.empty(0, dtype=np.int64))
        self._skipped[reason] = np.union1d(known, rows)

    def too_many_skipped(self, allowed_share: float) -> bool:
        """True if more visits were skipped than `allowed_share` of all visits of the run."""
        return self.visits_skipped > allowed_share * self.rows * self.epochs

    @property
    def rows_skipped(self) -> dict[str, int]:
        return {reason: int(rows.size) for reason, rows in self._skipped.items()}

    def to_dict(self) -> dict[str, Any]:
        """The counts as they stand in metrics.json."""
        skipped = self.rows_skipped
        return {
            "rows_in": self.rows,
            "rows_trained": self.rows - sum(skipped.values()),
            "rows_skipped": skipped,
            "visits": {"trained": self.visits_trained, "skipped": self.visits_skipped},
            "steps": self.steps_done,
            "loss": [list(point) for point in self.losses],
        }
