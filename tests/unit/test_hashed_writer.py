"""The files of a hashed partition: where row groups end depends on the rows alone."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persia_core.data.hashed_writer import ROWS_PER_GROUP, write_parts
from persia_core.data.statistics import PartitionStatistics
from tests.support.hashed import hashed_table
from tests.support.small_config import small_config, small_rows


@pytest.mark.parametrize("cuts", [[], [0, 1, 30_000, ROWS_PER_GROUP, ROWS_PER_GROUP]])
def test_row_groups_have_a_fixed_number_of_rows(tmp_path: Path, cuts: list[int]) -> None:
    config = small_config()
    rows = ROWS_PER_GROUP + 10
    table = pa.concat_tables([hashed_table(config, small_rows(500))] * (rows // 500 + 1)).slice(0, rows)
    table = table.set_column(1, table.schema.field("time"), pa.array(range(rows), pa.int64()))
    sources = []
    for low, high in zip([0, *cuts], [*cuts, rows], strict=True):
        sources.append(tmp_path / f"{len(sources)}.parquet")
        pq.write_table(table.slice(low, high - low), sources[-1])
    (written := tmp_path / "written").mkdir()
    (part,) = write_parts(config, sources, written, PartitionStatistics(config, {"price": 0, "age": 0}))
    assert part.rows == rows
    metadata = pq.read_metadata(written / part.path)
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [65_536, 10]
    found = pq.read_table(written / part.path)
    assert found["time"].to_pylist() == list(range(rows))
    assert found["user"].to_pylist() == table["user"].to_pylist()
