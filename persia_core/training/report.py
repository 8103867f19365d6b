"""What a run leaves for publishing: metrics.json and parity.parquet."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from persia_core.checkpoint.layout import METRICS, PARITY
from persia_core.data.partition import LocalPartition
from persia_core.data.schema import LABEL, WEIGHT

_LABEL_ROWS = 1 << 18


def read_labels(partition: LocalPartition) -> NDArray[np.float32]:
    """All labels of a partition, float32 [rows], in its order."""
    return _read(partition, LABEL)


def read_weights(partition: LocalPartition) -> NDArray[np.float32] | None:
    """The weights of all samples, float32 [rows], in its order; None if samples have none."""
    return _read(partition, WEIGHT) if partition.weighted else None


def _read(partition: LocalPartition, column: str) -> NDArray[np.float32]:
    pieces = [
        partition.read(low, min(low + _LABEL_ROWS, partition.rows)).column(column).to_numpy()
        for low in range(0, partition.rows, _LABEL_ROWS)
    ]
    return np.concatenate(pieces).astype(np.float32)


def staleness_of(stats: list[dict[str, Any]]) -> dict[str, Any]:
    """Maximum and histogram of outstanding batches at each update. Every server sees every batch."""
    histogram: dict[int, int] = {}
    for server in stats[:1]:
        for value, count in server["staleness"]["histogram"].items():
            histogram[int(value)] = histogram.get(int(value), 0) + int(count)
    largest = max((int(server["staleness"]["max"]) for server in stats), default=0)
    return {"max": largest, "histogram": {str(k): v for k, v in sorted(histogram.items())}}


def add_staleness(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Maximum and histogram of two attempts together, as `staleness_of` gives them."""
    histogram = {int(many): int(count) for many, count in earlier["histogram"].items()}
    for many, count in later["histogram"].items():
        histogram[int(many)] = histogram.get(int(many), 0) + int(count)
    return {
        "max": max(earlier["max"], later["max"]),
        "histogram": {str(many): count for many, count in sorted(histogram.items())},
    }


def table_rows_of(stats: list[dict[str, Any]]) -> dict[str, int]:
    """Rows of each table over all servers."""
    return _of_tables(stats, "rows")


def table_bytes_of(stats: list[dict[str, Any]]) -> dict[str, int]:
    """Memory of each table over all servers."""
    return _of_tables(stats, "bytes")


def _of_tables(stats: list[dict[str, Any]], counter: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for server in stats:
        for name, table in server["tables"].items():
            found[name] = found.get(name, 0) + int(table[counter])
    return found


def words_of_attached(stats: list[dict[str, Any]]) -> str:
    """For the log: how many servers took their tables from memory. Their own lines say why not, if so."""
    attached = sum(int(server["segments"]["attached"]) for server in stats)
    return f"{attached} of {len(stats)} servers re-attached to their tables in memory, the others read parts"


def write_parity(run_dir: Path, rows: pa.Table, predictions: NDArray[np.float32]) -> None:
    """The hashed rows and the trainer's predictions on them, for who reloads the model."""
    column = pa.array(predictions, type=pa.float32())
    pq.write_table(rows.append_column("prediction", column), run_dir / PARITY)


def write_metrics(run_dir: Path, metrics: dict[str, Any]) -> None:
    """metrics.json, complete or not at all."""
    temporary = run_dir / f".{METRICS}.tmp"
    temporary.write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    temporary.rename(run_dir / METRICS)
