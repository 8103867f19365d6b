"""Memory of tables: bytes per row beyond weights and state, and growth at capacity. A process of its own."""

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
_AT_ONCE = 1 << 16


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
        # A few ids at a time: large arrays would stay with the allocator, and count as the table's.
        for start in range(turn * rows, (turn + 1) * rows, _AT_ONCE):
            ours.fill(store, ids_of(np.arange(start, min(start + _AT_ONCE, (turn + 1) * rows))), DIM)
        growth.append(_rss() - before)
    return growth, store.stats()["rows"]


def main() -> None:
    """memory.py RESULT ROWS...: writes what jobs.Outcome holds, the figures being the worst of all tables."""
    result, sizes = Path(sys.argv[1]), [int(rows) for rows in sys.argv[2:]]
    fill_and_stream(_AT_ONCE, 2)  # what this process takes once
    samples: dict[str, object] = {"payload_bytes_per_row": PAYLOAD_BYTES}
    overheads, growths = [], []
    for rows in sizes:
        growth, held = fill_and_stream(rows, TIMES_CAPACITY)
        overheads.append(growth[-1] / held - PAYLOAD_BYTES)
        growths.append(max(growth) / growth[0] - 1)
        samples[f"{rows} rows"] = {"rss_bytes": growth, "rows": held}
    figures = {"overhead_bytes_per_row": max(overheads), "rss_growth_at_capacity": max(growths)}
    result.write_text(json.dumps({"figures": figures, "samples": samples}), encoding="utf-8")


if __name__ == "__main__":
    main()
