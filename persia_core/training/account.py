"""Where every sample went: rows in = rows trained + rows skipped, by reason."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from persia_core.training.group import TrainerGroup

NON_FINITE = "non_finite_gradient"
OVERFLOW = "loss_scale_overflow"  # of a gradient, with a finite loss: part of finding the loss scale
REASONS = (NON_FINITE, OVERFLOW)
_NO_ROWS = np.empty(0, dtype=np.int64)


class Account:
    """Counts of one run. A row counts as skipped if any of its visits (one per epoch) was skipped.

    With `keepers` over 1, that many trainers keep an account each, of their own samples.
    """

    def __init__(self, rows: int, steps: int, epochs: int, keepers: int = 1) -> None:
        self.rows = rows
        self.steps = steps
        self.epochs = epochs
        self.keepers = keepers
        self.steps_done = 0
        self.visits_trained = 0
        self.visits_skipped = 0
        self._visits_unexplained = 0
        self.ids_truncated = 0  # of this trainer's bags, that did not fit into their sequence
        self.losses: list[tuple[int, float]] = []
        self._skipped: dict[str, NDArray[np.int64]] = {}

    def trained(self, rows: NDArray[np.int64]) -> None:
        self.steps_done += 1
        self.visits_trained += rows.size

    def skipped(self, rows: NDArray[np.int64], reason: str) -> None:
        self.steps_done += 1
        self.visits_skipped += rows.size
        if reason != OVERFLOW:
            self._visits_unexplained += rows.size
        self._count_rows(reason, rows)

    def _count_rows(self, reason: str, rows: NDArray[np.int64]) -> None:
        for other, known in self._skipped.items():
            if other != reason:  # a row is skipped for the first reason that it was
                rows = np.setdiff1d(rows, known)
        self._skipped[reason] = np.union1d(self._skipped.get(reason, _NO_ROWS), rows)

    def too_many_skipped(self, allowed_share: float) -> bool:
        """True if more visits were skipped than `allowed_share` of all visits of the run.

        Overflows do not count: a loss scale is found by raising it until gradients overflow.
        """
        return self._visits_unexplained > allowed_share * self.rows * self.epochs / self.keepers

    def together(self, group: TrainerGroup) -> None:
        """Add up the accounts of all keepers, on trainer 0. Every trainer calls it."""
        truncated = group.gather(np.array([self.ids_truncated], dtype=np.int64))
        if truncated is not None:
            self.ids_truncated = int(np.sum(truncated))
        if self.keepers == 1:
            return
        counts = group.gather(np.array([self.visits_trained, self.visits_skipped], dtype=np.int64))
        rows = [group.gather(self._skipped.get(reason, _NO_ROWS)) for reason in REASONS]
        if counts is None:
            return
        self.visits_trained, self.visits_skipped = np.sum(counts, axis=0).tolist()
        for reason, found in zip(REASONS, rows, strict=True):
            for each in found or ():
                if each.size:
                    self._count_rows(reason, each)
        self.keepers = 1

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
            "ids_truncated": self.ids_truncated,
            "steps": self.steps_done,
            "loss": [list(point) for point in self.losses],
        }
