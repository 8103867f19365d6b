"""What is measured of a model version for the gate, besides its predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persia_core.checkpoint.layout import DENSE, PARITY
from persia_core.data.partition import LocalPartition
from persia_core.errors import Corrupt
from persia_core.handoff.consume import PickedUp
from persia_core.handoff.inflation import check_header
from persia_core.handoff.parity import prediction_difference
from persia_core.handoff.serving_model import ServingModel
from persia_core.validation.shape import Norms

_ROWS_AT_ONCE = 65_536


def parity_of(picked: PickedUp, directory: Path) -> float | None:
    """The largest absolute difference of predictions; None if there are none, or one is not a number.

    Of every form that the dense network has in the version.
    """
    models = [picked.model]
    if picked.model.schema.onnx is not None:
        models.append(picked.model.under("onnx"))
    found = [prediction_difference(model, directory / PARITY)[1] for model in models]
    return None if None in found else max(each for each in found if each is not None)


def not_finite(picked: PickedUp, directory: Path) -> list[str]:
    """Names of tables and dense tensors that hold a NaN or infinity."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    arrays: dict[str, NDArray[np.float32]] = {
        f"table {name}": rows.weights for name, rows in picked.model.tables.items()
    }
    check_header(directory / DENSE)
    try:
        dense = load_file(directory / DENSE)
    except (SafetensorError, OSError, TypeError, KeyError) as error:
        raise Corrupt(f"{directory / DENSE} cannot be read: {error}", "publish the run again") from error
    for name, tensor in dense.items():
        if np.issubdtype(tensor.dtype, np.floating):
            arrays[f"dense {name}"] = tensor
    return [name for name, array in arrays.items() if not np.isfinite(array).all()]


def norms_of(model: ServingModel) -> dict[str, Norms]:
    """Norms of the rows of each table."""
    return {name: _norms(rows.weights) for name, rows in model.tables.items()}


def _norms(weights: NDArray[np.float32]) -> Norms:
    total, largest = 0.0, 0.0
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        norms = np.linalg.norm(weights[start : start + _ROWS_AT_ONCE].astype(np.float64), axis=1)
        total, largest = total + float(norms.sum()), float(np.maximum(largest, norms.max()))  # NaN stays
    if not len(weights):
        return Norms(0, None, None)
    return Norms(len(weights), total / len(weights), largest)


def coverage_of(model: ServingModel, partition: LocalPartition) -> dict[str, float]:
    """Share of the ids in the partition, every occurrence counted, that have a row; by table."""
    seen: dict[str, int] = {}
    there: dict[str, int] = {}
    for start in range(0, partition.rows, _ROWS_AT_ONCE):
        rows = partition.read(start, min(start + _ROWS_AT_ONCE, partition.rows))
        for feature in model.schema.id_features:
            table = model.schema.table_of(feature).name
            ids = _ids(rows[feature.name])
            seen[table] = seen.get(table, 0) + len(ids)
            there[table] = there.get(table, 0) + int(_is_among(ids, model.tables[table].ids).sum())
    return {table: there[table] / count for table, count in seen.items() if count}


def _ids(column: Any) -> NDArray[np.uint64]:
    flat = column.combine_chunks()
    if pa.types.is_list(flat.type):
        flat = flat.flatten()
    ids: NDArray[np.uint64] = flat.drop_null().to_numpy(zero_copy_only=False).view(np.uint64)
    return ids


def _is_among(ids: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `ids` are in `known`, which is ascending."""
    if not len(known):
        return np.zeros(len(ids), np.bool_)
    position = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    found: NDArray[np.bool_] = known[position] == ids
    return found
