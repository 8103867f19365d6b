"""Whether an export predicts what the trainer predicted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
    try:
        check_bounded(path, pq.read_metadata(path), _ROWS, _VALUES, _BYTES)
        rows = pq.read_table(path)
        expected = rows[PREDICTION].to_numpy()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise Corrupt(f"{path} cannot be read: {error}", "train the partition again") from error
    if not len(expected):
        return 0, None
    difference = float(np.abs(model.predict(rows) - expected).max())
    return len(expected), None if np.isnan(difference) else difference
