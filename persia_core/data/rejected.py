"""Rejected rows: located by file and line, written for people to look at, and when they are too many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from persia_core.config import ModelConfig
from persia_core.data.line_numbers import LineNumbers
from persia_core.data.reasons import bad_label
from persia_core.errors import DataInvalid
from persia_core.handoff.manifest import Part, sha256_file
from spark_jobs.raw_files import RawFile

SCHEMA = pa.schema(
    [("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("record", pa.string())]
)
_ROWS_AT_ONCE = 8_192
_ROWS_PER_FILE = 1 << 20
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class RejectedRow:
    """`file` as people know it; `line` from 1 (of Parquet the row); `label` as it stands, None if missing."""

    file: str
    line: int | None
    record: str | None
    label: str | None

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return self.file if self.line is None else f"{self.file}, line {self.line}"


@dataclass
class LocatedRows:
    """`parts`: the files that hold all rejected rows. `first`: reason -> the first row rejected for it."""

    parts: list[Part] = field(default_factory=list)
    first: dict[str, RejectedRow] = field(default_factory=dict)


def locate_rejected(
    source: Path, files: Sequence[RawFile], directory: Path, expected_rows: int
) -> LocatedRows:
    """Write the rows in `source`, which `write_rejected` wrote, with names and lines as Parquet parts.

    Columns of the parts: `file`, `line`, `reason`, `record`; in order of file (as in `files`, by path)
    and line. Files of text that are not compressed are read up to the split of the last rejected row,
    to count lines; memory is bounded. A file that is none of `files` leaves `line` null. There are
    `expected_rows` rows, or the two readings of the raw files disagree: RuntimeError.
    """
    directory.mkdir()
    located = LocatedRows()
    batches = _located(source, files, located)
    batch = next(batches, None)
    while batch is not None:
        path = directory / "part.parquet"
        rows = 0
        with pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=1) as writer:
            while batch is not None and rows < _ROWS_PER_FILE:
                writer.write_table(batch)
                rows += batch.num_rows
                batch = next(batches, None)
        sha256 = sha256_file(path)
        final = path.rename(directory / f"part-{len(located.parts):05d}-{sha256[:12]}.parquet")
        located.parts.append(Part(path=final.name, size=final.stat().st_size, sha256=sha256, rows=rows))
    written = sum(part.rows or 0 for part in located.parts)
    if written != expected_rows:
        raise RuntimeError(f"Spark counted {expected_rows} rejected rows and wrote {written}")
    return located


def _located(source: Path, files: Sequence[RawFile], located: LocatedRows) -> Iterator[pa.Table]:
    known = {file.location: file for file in files}
    current, numbers = "", None
    block, first_line = -1, 0
    try:
        for batch in _batches(source):
            lines: list[int | None] = []
            shown = []
            for row in batch:
                path = row["_file"]
                if path != current:
                    if numbers is not None:
                        numbers.close()
                    numbers = LineNumbers(path, known[path].open()) if path in known else None
                    current, block = path, -1
                if row["_block"] != block:
                    block = row["_block"]
                    first_line = 1 if numbers is None else numbers.first_line(block)
                line = None if numbers is None and block > 0 else first_line + row["_position"]
                lines.append(line)
                name = known[path].name if path in known else path
                shown.append(name)
                if row["_reason"] not in located.first:
                    located.first[row["_reason"]] = RejectedRow(name, line, row["_record"], row["_label"])
            columns = [shown, lines, [row["_reason"] for row in batch], [row["_record"] for row in batch]]
            yield pa.table(
                [pa.array(values, kind.type) for values, kind in zip(columns, SCHEMA, strict=True)],
                schema=SCHEMA,
            )
    finally:
        if numbers is not None:
            numbers.close()


def _batches(source: Path) -> Iterator[list[dict[str, Any]]]:
    for path in sorted(source.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                if batch.num_rows:
                    yield batch.to_pylist()


def refusal(
    config: ModelConfig, rows_in: int, rejected: dict[str, int], first: dict[str, RejectedRow]
) -> DataInvalid | None:
    """The error that so many rejected rows (reason -> rows) are; None if the partition may be kept."""
    if not rejected:
        return None
    label = bad_label(config)
    count = sum(rejected.values())
    if label in rejected:
        row = first[label]
        value = "missing" if row.label is None else repr(row.label)
        problem = label.removeprefix("label: ")
        return DataInvalid(
            f"{rejected[label]} labels (column {config.dataset.label!r}) are {problem}: "
            f"the first one, in {row.place}, is {value}",
            "deliver the label as declared, or name the right column in dataset.label",
        )
    reason, row = min(first.items(), key=lambda item: (item[1].file, item[1].line or 0))
    where = f"the first one is {row.place} ({reason}): {_shortened(row.record)}"
    every = ", ".join(f"{name} {rows}" for name, rows in rejected.items())
    if count == rows_in:
        return DataInvalid(
            f"all {rows_in} rows were rejected ({every}); {where}",
            "compare the raw files with the features in the configuration",
        )
    share = config.data_checks.max_rejected_share
    if count > share * rows_in:
        return DataInvalid(
            f"{count} of {rows_in} rows were rejected ({every}), more than data_checks.max_rejected_share "
            f"({share:g}) allows; {where}",
            "look at the rejected rows, then mend the raw files, or raise the share",
        )
    return None


def _shortened(record: str | None) -> str:
    text = record or ""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
