"""How good a stored model version is on a partition."""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persia_core.config import ModelConfig
from persia_core.config.home import work_dir
from persia_core.data.partition import LocalPartition, open_partition
from persia_core.data.schema import WEIGHT
from persia_core.errors import DataInvalid
from persia_core.handoff.consume import pick_up_version
from persia_core.handoff.layout import check_ds
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.serving_model import ServingModel
from persia_core.training.metrics import summary

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 65_536
_PROGRESS_S = 5.0


@dataclass(frozen=True)
class Predictions:
    """Of every row of a partition in order: float32 [rows]; `weights` None if samples have none."""

    labels: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None

    def summary(self) -> dict[str, float | int | None]:
        """Their metrics; see training.metrics.summary."""
        return summary(self.labels, self.probabilities, self.weights)


def evaluate_version(
    config: ModelConfig, store: ObjectStore, version: str, ds: str, *, predictions: bool = False
) -> dict[str, Any]:
    """Metrics of a version on the hashed partition `ds` (see training.metrics.summary).

    With `predictions`, also "labels" and "probabilities" (float32 [rows], partition order).
    Raises Corrupt for a damaged version, PartitionMissing, PartitionEmpty, and DataInvalid if the
    configuration, the partition and the version are not of one schema.
    """
    with scratch() as directory:
        picked = pick_up_version(store, config.name, version, directory)
        if picked.manifest.schema_fingerprint != config.schema_fingerprint():
            raise DataInvalid(
                f"version {version} reads other features than the configuration names",
                "evaluate it with the configuration that it was trained with",
            )
        scored = predict_partition(picked.model, open_partition(store, config, check_ds(ds), work_dir()))
    result: dict[str, Any] = {"version": version, "ds": ds, **scored.summary()}
    if predictions:
        result |= {"labels": scored.labels, "probabilities": scored.probabilities}
    return result


def predict_partition(model: ServingModel, partition: LocalPartition) -> Predictions:
    """Score every row; a line of progress every few seconds."""
    labels, probabilities, weights = [], [], []
    told = time.monotonic()
    for start in range(0, partition.rows, _ROWS_AT_ONCE):
        rows = partition.read(start, min(start + _ROWS_AT_ONCE, partition.rows))
        labels.append(rows["label"].to_numpy())
        probabilities.append(model.predict(rows))
        if partition.weighted:
            weights.append(rows[WEIGHT].to_numpy())
        if time.monotonic() - told >= _PROGRESS_S:
            told = time.monotonic()
            logger.info("scored %d of %d rows", start + rows.num_rows, partition.rows)
    return Predictions(
        np.concatenate(labels), np.concatenate(probabilities), np.concatenate(weights) if weights else None
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory of its own under the working directory, removed afterwards."""
    parent = work_dir()
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="handoff-", dir=parent) as directory:
        yield Path(directory)
