"""Memory of a table: bytes per row beyond weights and state, and growth at capacity. A process of its own."""

import gc
import json
import sys
from pathlib import Path

import numpy as np
import psutil

from benchmarks.batches import ids_of
from benchmarks.contestants import ours

DIM = 16
PAYLOAD_BYTES = 4 * (DIM + DIM)  # weights, and the state of elementwise Adagrad
TIMES_CAPACITY = 10


def _rss() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def fill_and_stream(rows: int, turns: int) -> tuple[list[int], int]:
    """Fill a table of capacity for `rows` rows, then go on, to `turns` times as many distinct ids.

    The growth of RSS after each turn, and the rows in the table at the end.
    """
    before = _rss()
    store = ours.make_store(ours.table_of(rows, DIM, rowwise=False))
    growth = []
    for turn in range(turns):
        ours.fill(store, ids_of(np.arange(turn * rows, (turn + 1) * rows)), DIM)
        growth.append(_rss() - before)
    return growth, store.stats()["rows"]


def main() -> None:
    """memory.py ROWS RESULT: writes what jobs.Outcome holds."""
    rows, result = int(sys.argv[1]), Path(sys.argv[2])
    fill_and_stream(1000, 2)  # what this process takes once
    growth, held = fill_and_stream(rows, TIMES_CAPACITY)
    outcome = {
        "figures": {
            "overhead_bytes_per_row": growth[0] / held - PAYLOAD_BYTES,
            "rss_growth_at_capacity": max(growth) / growth[0] - 1,
        },
        "samples": {"rss_bytes": growth, "rows": held, "payload_bytes_per_row": PAYLOAD_BYTES},
    }
    result.write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
