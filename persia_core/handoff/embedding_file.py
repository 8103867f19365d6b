"""Rows of an embedding table in Parquet, ids ascending: float32, float16, or int8 with a scale per row.

See docs/formats/model_version.md. They are written and read a row group at a time, so memory does not grow
with the table; the statistics of `id` say which row group an id is in.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from persia_core.errors import Corrupt
from persia_core.handoff.embedding_rows import IDS, VALUES, EmbeddingRows

ROW_GROUP = 65_536
_REMEDY = "publish the version again under a new run"
_ITEMS = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}


class EmbeddingWriter:
    """Writes rows in ascending order of id. Equal rows give equal bytes, however they were handed over."""

    def __init__(self, path: Path, kind: str, dim: int) -> None:
        self._schema = _schema(kind, dim)
        self._kind = kind
        # Weights are close to random bits: compressing them costs time and gains nothing.
        self._file = pq.ParquetWriter(path, self._schema, compression="none", use_dictionary=False)
        self._pending = [EmbeddingRows.none(kind, dim)]
        self._waiting = 0
        self._digest = hashlib.sha256()
        self.rows = 0

    def __enter__(self) -> "EmbeddingWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush(whole_groups=False)
        self._file.close()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the packed rows that were written."""
        return self._digest.hexdigest()

    def write(self, rows: EmbeddingRows) -> None:
        """Append rows; their ids are above those written before."""
        self._digest.update(rows.packed().data)
        self.rows += len(rows)
        self._pending.append(rows)
        self._waiting += len(rows)
        if self._waiting >= ROW_GROUP:
            self._flush(whole_groups=True)

    def _flush(self, *, whole_groups: bool) -> None:
        rows = EmbeddingRows.joined(self._pending)
        end = len(rows) - len(rows) % ROW_GROUP if whole_groups else len(rows)
        for start in range(0, end, ROW_GROUP):
            self._file.write_table(self._table(rows.take(slice(start, start + ROW_GROUP))))
        self._pending = [rows.take(slice(end, None))]
        self._waiting = len(rows) - end

    def _table(self, rows: EmbeddingRows) -> pa.Table:
        columns = [pa.array(rows.ids)]
        if self._kind != IDS:
            flat = pa.array(np.ascontiguousarray(rows.values).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=self._schema.field(1).type))
        if rows.scale is not None:
            columns.append(pa.array(rows.scale))
        return pa.table(columns, schema=self._schema)


class EmbeddingFile:
    """A file of `rows` rows, opened without reading them.

    Raises Corrupt naming the file, here and wherever rows are read: it is no Parquet file, has other columns
    or another number of rows, more rows than its bytes can hold, nulls, or ids that do not ascend.
    """

    def __init__(self, path: Path, kind: str, dim: int, rows: int) -> None:
        self._path, self._kind, self._dim = path, kind, dim
        try:
            self._file = pq.ParquetFile(path)
            found = self._file.schema_arrow
        except (OSError, pa.ArrowException) as error:
            raise self._corrupt(f"cannot be read: {error}") from error
        counted = self._file.metadata.num_rows
        if counted != rows:
            raise self._corrupt(f"has {counted} rows, {rows} were expected")
        row_bytes = 8 + (0 if kind == IDS else dim * VALUES[kind].itemsize) + (4 if kind == "int8" else 0)
        if rows * row_bytes > path.stat().st_size:  # values are stored one by one: less is a trick
            raise self._corrupt(f"has {rows} rows in {path.stat().st_size} bytes")
        if not _fits(found, kind, dim):
            columns = ", ".join(f"{field.name} {field.type}" for field in found)
            raise self._corrupt(f"has columns {columns}; expected id and embedding of {dim} {kind}")

    def chunks(self) -> Iterator[EmbeddingRows]:
        """All rows in order, a row group at a time."""
        last = -1
        for number in range(self._file.metadata.num_row_groups):
            rows = self._group(number)
            if not len(rows):
                continue
            if int(rows.ids[0]) <= last:
                raise self._corrupt("ids are not ascending")
            last = int(rows.ids[-1])
            yield rows

    def read(self) -> EmbeddingRows:
        """All rows, in memory."""
        rows = self._file.metadata.num_rows
        ids = np.empty(rows, np.uint64)
        values = np.empty((rows, self._dim), VALUES[self._kind])
        scale = np.empty(rows, np.float32) if self._kind == "int8" else None
        start = 0
        for piece in self.chunks():
            stop = start + len(piece)
            ids[start:stop], values[start:stop] = piece.ids, piece.values
            if scale is not None:
                scale[start:stop] = piece.scale
            start = stop
        return EmbeddingRows(ids, values, scale)

    def digest(self) -> str:
        """SHA-256 (hex) over the packed rows."""
        digest = hashlib.sha256()
        for rows in self.chunks():
            digest.update(rows.packed().data)
        return digest.hexdigest()

    def lookup(self, ids: NDArray[np.uint64]) -> NDArray[np.float32]:
        """The weights of `ids` [m], zeros where there is none; float32 [m, dim].

        Reads the row groups that can hold one of the ids, one after the other.
        """
        wanted, place = np.unique(ids, return_inverse=True)
        out = np.zeros((len(wanted), self._dim), np.float32)
        for number in range(self._file.metadata.num_row_groups):
            first, stop = self._within(number, wanted)
            if first == stop:
                continue
            out[first:stop] += self._group(number).lookup(wanted[first:stop])
        return out[place]

    def holds(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of `ids` [m] have a row: bool [m]. Reads as `lookup` does."""
        wanted, place = np.unique(ids, return_inverse=True)
        found = np.zeros(len(wanted), np.bool_)
        for number in range(self._file.metadata.num_row_groups):
            first, stop = self._within(number, wanted)
            if first != stop:
                found[first:stop] |= self._group(number).holds(wanted[first:stop])
        return found[place]

    def _within(self, number: int, wanted: NDArray[np.uint64]) -> tuple[int, int]:
        """Which of the sorted ids lie between the least and the greatest id of a row group."""
        statistics = self._file.metadata.row_group(number).column(0).statistics
        if statistics is None or not statistics.has_min_max:
            return 0, len(wanted)
        low, high = np.uint64(statistics.min), np.uint64(statistics.max)
        return int(np.searchsorted(wanted, low, "left")), int(np.searchsorted(wanted, high, "right"))

    def _group(self, number: int) -> EmbeddingRows:
        try:
            table = self._file.read_row_group(number)
        except (OSError, pa.ArrowException) as error:
            raise self._corrupt(f"cannot be read: {error}") from error
        ids = table["id"].to_numpy()
        if table["id"].null_count:
            raise self._corrupt("has nulls")
        if (ids[1:] <= ids[:-1]).any():
            raise self._corrupt("ids are not ascending")
        if self._kind == IDS:
            return EmbeddingRows(ids, np.empty((len(ids), 0), np.uint8))
        column: Any = table["embedding"].combine_chunks()
        if column.null_count or column.values.null_count:
            raise self._corrupt("has nulls")
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), self._dim)
        if self._kind != "int8":
            return EmbeddingRows(ids, values)
        if table["scale"].null_count:
            raise self._corrupt("has nulls")
        return EmbeddingRows(ids, values, table["scale"].to_numpy())

    def _corrupt(self, what: str) -> Corrupt:
        return Corrupt(f"{self._path} {what}", _REMEDY)


def _schema(kind: str, dim: int) -> pa.Schema:
    fields = [pa.field("id", pa.uint64(), nullable=False)]
    if kind != IDS:
        item = pa.field("item", _ITEMS[kind])
        fields.append(pa.field("embedding", pa.list_(item, dim), nullable=False))
    if kind == "int8":
        fields.append(pa.field("scale", pa.float32(), nullable=False))
    return pa.schema(fields)


def _fits(schema: pa.Schema, kind: str, dim: int) -> bool:
    """Whether the columns are ours, whatever names and nullability a writer gives their items."""
    declared = _schema(kind, dim)
    if schema.names != declared.names:
        return False
    for found, expected in zip(schema, declared, strict=True):
        if pa.types.is_fixed_size_list(expected.type):
            same = pa.types.is_fixed_size_list(found.type) and found.type.list_size == dim
            if not same or found.type.value_type != expected.type.value_type:
                return False
        elif found.type != expected.type:
            return False
    return True
