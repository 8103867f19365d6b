"""Whether an export predicts what the trainer predicted, and the same in every form that it has."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from persia_core.errors import Corrupt
from persia_core.handoff.inflation import check_bounded
from persia_core.handoff.serving_model import ServingModel

PREDICTION = "prediction"

_ROWS = 2048
_VALUES = 16 << 20  # of all columns together, bags included
_BYTES = 256 << 20


def prediction_difference(model: ServingModel, path: Path) -> tuple[int, float | None]:
    """Rows of the parity file at `path`, and the largest absolute difference of the model from the trainer.

    None without rows, and where a prediction is not a number. Raises Corrupt if the file cannot be read.
    """
    rows, expected = _read(path)
    return len(expected), _largest(model.predict(rows), expected)


def runtime_difference(model: ServingModel, path: Path) -> tuple[int, float | None]:
    """The same between the model's ONNX file and its graph, whatever the trainer predicted."""
    rows, expected = _read(path)
    return len(expected), _largest(model.under("onnx").predict(rows), model.under("torch").predict(rows))


def _read(path: Path) -> tuple[pa.Table, NDArray[np.float32]]:
    try:
        check_bounded(path, pq.read_metadata(path), _ROWS, _VALUES, _BYTES)
        rows = pq.read_table(path)
        return rows, rows[PREDICTION].to_numpy()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise Corrupt(f"{path} cannot be read: {error}", "train the partition again") from error


def _largest(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float | None:
    if not len(expected):
        return None
    difference = float(np.abs(found - expected).max())
    return None if np.isnan(difference) else difference
