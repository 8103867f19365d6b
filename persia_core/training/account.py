"""Where every sample went: rows in = rows trained + rows skipped, by reason."""

import copy
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

    def together(self, group: TrainerGroup) -> "Account":
        """The accounts of all keepers added up, on trainer 0; a copy of its own elsewhere.

        Every trainer calls it.
        """
        found = copy.deepcopy(self)
        own = (self.ids_truncated, self.visits_trained, self.visits_skipped, self._visits_unexplained)
        counts = group.gather(np.array(own, dtype=np.int64))
        each_skipped = {
            reason: group.gather(self._skipped.get(reason, _NO_ROWS)) if self.keepers > 1 else None
            for reason in REASONS
        }
        if counts is None:
            return found
        truncated, *visits = np.sum(counts, axis=0).tolist()
        found.ids_truncated = truncated
        if self.keepers > 1:
            found.visits_trained, found.visits_skipped, found._visits_unexplained = visits
            for reason, of_trainers in each_skipped.items():
                for rows in of_trainers or ():
                    if rows.size:
                        found._count_rows(reason, rows)
            found.keepers = 1
        return found

    def state_dict(self) -> dict[str, Any]:
        """The numbers of an account that is together, for a cut; `rows_skipped_by` are the rest of it."""
        return {
            "steps": self.steps_done,
            "trained": self.visits_trained,
            "skipped": self.visits_skipped,
            "unexplained": self._visits_unexplained,
            "ids_truncated": self.ids_truncated,
            "losses": [list(point) for point in self.losses],
        }

    @property
    def rows_skipped_by(self) -> dict[str, NDArray[np.int64]]:
        """The rows that were skipped, int64 [n] ascending, by reason."""
        return dict(self._skipped)

    def load_state_dict(
        self, state: dict[str, Any], skipped: dict[str, NDArray[np.int64]], trainer: int
    ) -> None:
        """Go on from an account that was together; the number of keepers may be another one.

        What keepers add up is trainer 0's. What they compare with a limit each is shared out.
        """
        self.steps_done = int(state["steps"])
        unexplained = int(state["unexplained"])
        self._visits_unexplained = unexplained // self.keepers
        if trainer == 0:
            self._visits_unexplained += unexplained % self.keepers
            self.ids_truncated = int(state["ids_truncated"])
            self.losses = [(int(step), float(loss)) for step, loss in state["losses"]]
        if trainer == 0 or self.keepers == 1:
            self.visits_trained = int(state["trained"])
            self.visits_skipped = int(state["skipped"])
            self._skipped = {reason: rows.copy() for reason, rows in skipped.items()}

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
