"""Before anything is timed: the contestants that hash make the same rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.criteo_rows import write_rows
from benchmarks.hashing import config
from benchmarks.polars_hashing import hash_file
from persia_core.data.rows import hash_rows

ROWS = 2_000


def check_agreement(scratch: Path) -> None:
    """Polars against the Python transform, which tests hold equal to the job; raises AssertionError."""
    source, target = scratch / "agreement.tsv", scratch / "agreement.parquet"
    write_rows(source, ROWS, seed=9)
    hash_file(config(), source, target)
    names = config().dataset.columns or ()
    lines = source.read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines]
    expected = hash_rows(config(), rows).table
    found = pq.read_table(target)
    order = [(name, "ascending") for name in expected.column_names if name.startswith("C")]
    for name in expected.column_names:
        one, other = (table.sort_by(order)[name].to_pylist() for table in (expected, found))
        if pa.types.is_floating(expected.schema.field(name).type):
            same = all(abs(a - b) < 1e-5 for a, b in zip(one, other, strict=True))
        else:
            same = one == other
        if not same:
            raise AssertionError(f"Polars and the job do not agree on {name}")
