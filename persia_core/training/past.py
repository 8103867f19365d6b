"""What a run has come to before an attempt begins: nothing, a parent checkpoint, or a cut of its own."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from persia_core.checkpoint.layout import RUN
from persia_core.handoff.layout import MANIFEST
from persia_core.training.slices import Slices

Metrics = dict[str, float | int | None]

_SKIPPED = "skipped."


@dataclass
class Past:
    """Of the run so far. `first_step` is the step of the model at which the partition began.

    `step` counts the steps of the run that are done. `before`, `slices` and `calibration` are of the model
    before it was trained on the partition; `staleness` and `seconds` are of the earlier attempts, as far as
    their steps are kept. `resumed_at` are the steps that attempts went on from, `schema_change` what became
    of the parent's tables.
    """

    first_step: int = 0
    step: int = 0
    before: Metrics | None = None
    slices: dict[str, Slices] = field(default_factory=dict)
    calibration: dict[str, list[dict[str, float | int]]] = field(default_factory=dict)
    staleness: dict[str, Any] = field(default_factory=lambda: {"max": 0, "histogram": {}})
    seconds: float = 0.0
    resumed_at: list[int] = field(default_factory=list)
    schema_change: dict[str, Any] | None = None
    account: dict[str, Any] | None = None
    log: dict[str, float] | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def of_cut(directory: Path, state: dict[str, Any]) -> "Past":
        """What a cut says; `state` is its state.json."""
        run = state["run"]
        step = int(state["position"]["steps"])
        seconds = json.loads((directory / MANIFEST).read_bytes())["metrics"]["seconds"]
        return Past(
            first_step=int(state["step"]) - step,
            step=step,
            before=run["before"],
            slices=run["slices"],
            calibration=run["calibration"],
            staleness=run["staleness"],
            seconds=float(seconds),
            resumed_at=[*run["resumed_at"], step],
            schema_change=run["schema_change"],
            account=run["account"],
            log=run["log"],
            tensors=load_file(directory / RUN),
        )

    @property
    def rows_skipped(self) -> dict[str, NDArray[np.int64]]:
        """The rows that were skipped, by reason."""
        return {
            name.removeprefix(_SKIPPED): tensor.numpy()
            for name, tensor in self.tensors.items()
            if name.startswith(_SKIPPED)
        }

    def for_cut(self, account: dict[str, Any], log: dict[str, float], staleness: dict[str, Any]) -> Any:
        """What `of_cut` finds in state.json under `run`."""
        return {
            "before": self.before,
            "slices": self.slices,
            "calibration": self.calibration,
            "staleness": staleness,
            "resumed_at": self.resumed_at,
            "schema_change": self.schema_change,
            "account": account,
            "log": log,
        }


def skipped_tensors(rows: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """Rows that were skipped, by the names that they have in a cut."""
    return {_SKIPPED + reason: found for reason, found in rows.items()}
