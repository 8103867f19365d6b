"""Synthetic rows in the shape of Criteo's: a label, 13 integers, 26 categories; tab-separated, no header."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

INTEGERS, CATEGORIES = 13, 26
COLUMNS = ["label", *(f"I{n}" for n in range(1, INTEGERS + 1)), *(f"C{n}" for n in range(1, CATEGORIES + 1))]
# Distinct values of the categories: a few with millions, some with a handful, as in the real log.
DISTINCT = (10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10)
MISSING_SHARE = 0.1
_ROWS_AT_ONCE = 100_000


def write_rows(path: Path, rows: int, seed: int) -> None:
    """`rows` rows to the new file `path`: values by a power law, a tenth of them empty."""
    rng = np.random.default_rng(seed)
    options = pa_csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    schema = pa.schema([("label", pa.int8()), *((name, pa.string()) for name in COLUMNS[1:])])
    with pa_csv.CSVWriter(path, schema, write_options=options) as writer:
        for start in range(0, rows, _ROWS_AT_ONCE):
            writer.write_table(_rows(min(_ROWS_AT_ONCE, rows - start), rng).cast(schema))


def _rows(count: int, rng: np.random.Generator) -> pa.Table:
    columns: list[pa.Array] = [pa.array((rng.random(count) < 0.25).astype(np.int8))]
    for _ in range(INTEGERS):
        values = np.floor(rng.exponential(1.5, count) ** 3).astype(np.int64)
        columns.append(_with_holes(pc.cast(pa.array(values), pa.string()), rng))
    for position in range(CATEGORIES):
        distinct = DISTINCT[position % len(DISTINCT)]
        ranks = np.floor(distinct ** rng.random(count)).astype(np.uint64)  # density about 1 / rank
        # A bijection of 32 bits, so that values look like hashes: eight hexadecimal digits.
        scattered = (ranks * np.uint64(0x9E3779B1) + np.uint64(position)) & np.uint64(0xFFFFFFFF)
        digits = np.frombuffer(scattered.astype(">u4").tobytes().hex().encode(), dtype="S8")
        columns.append(_with_holes(pa.array(digits.astype("U8")), rng))
    return pa.table(columns, names=COLUMNS)


def _with_holes(values: pa.Array, rng: np.random.Generator) -> pa.Array:
    empty = pa.array(rng.random(len(values)) < MISSING_SHARE)
    return pc.if_else(empty, "", values)
