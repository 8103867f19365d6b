"""The files of a hashed partition: the same rows in the same order give the same bytes."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from persia_core.config import ModelConfig
from persia_core.data.schema import hashed_columns
from persia_core.data.statistics import PartitionStatistics
from persia_core.handoff.manifest import Part, sha256_file

ROWS_PER_GROUP = 65_536
GROUPS_PER_FILE = 64


def write_parts(
    config: ModelConfig, sources: list[Path], directory: Path, statistics: PartitionStatistics
) -> list[Part]:
    """Rewrite the rows of `sources`, in order, into part files in `directory`; returns these, in order.

    How many files the rows come in leaves no trace: row groups have 65 536 rows (the last one fewer),
    files 64 row groups. Memory is bounded by a row group. File names carry the digest of the content, so
    that the files of two attempts never mix. Every row passes through `statistics`.
    """
    schema = pa.schema(list(hashed_columns(config).items()))
    parts: list[Part] = []
    groups = _row_groups(sources, schema)
    group = next(groups, None)
    while group is not None:
        path = directory / "part.parquet"
        rows = 0
        with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
            for _ in range(GROUPS_PER_FILE):
                if group is None:
                    break
                statistics.add(group)
                writer.write_table(group, row_group_size=ROWS_PER_GROUP)
                rows += group.num_rows
                group = next(groups, None)
        sha256 = sha256_file(path)
        final = path.rename(directory / f"part-{len(parts):05d}-{sha256[:12]}.parquet")
        parts.append(Part(path=final.name, size=final.stat().st_size, sha256=sha256, rows=rows))
    return parts


def _row_groups(sources: list[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of ROWS_PER_GROUP rows, one chunk per column; the last one may have fewer."""
    waiting: list[pa.Table] = []
    rows = 0
    for source in sources:
        with pq.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
                table = pa.Table.from_batches([batch]).cast(schema)
                while rows + table.num_rows >= ROWS_PER_GROUP:
                    cut = ROWS_PER_GROUP - rows
                    yield pa.concat_tables([*waiting, table.slice(0, cut)]).combine_chunks()
                    table = table.slice(cut)
                    waiting, rows = [], 0
                if table.num_rows:
                    waiting.append(table)
                    rows += table.num_rows
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()
