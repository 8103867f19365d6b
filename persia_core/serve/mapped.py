"""Embedding tables of a version as memory-mapped files, so that a server starts without reading them all.

Parquet cannot be mapped. The first time a version is opened, each of its tables is decoded, a row group at a
time, and its columns are written beside it as they are in memory (little-endian): `<table>.id`,
`<table>.embedding`, of int8 also `<table>.scale`; last a small JSON document with their sizes and checksums.
Later starts map these files, once every byte of them has the checksum of that document, and leave the Parquet
files alone. The files belong to one machine: they are no format to hand on.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from persia_core.errors import Corrupt
from persia_core.handoff.embedding_file import EmbeddingFile
from persia_core.handoff.embedding_rows import EmbeddingRows
from persia_core.handoff.serving_model import ServingModel
from persia_core.handoff.serving_schema import (
    SCHEMA_FILE,
    TABLES,
    ServingSchema,
    ServingTable,
    embedding_file,
)

log = logging.getLogger(__name__)

MAPPED = "mapped"  # directory beside the parts of the version
_BLOCK = 16 << 20


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: str
    shape: tuple[int, ...]
    xxh3: str


class _Document(BaseModel):
    """What stands in `<table>.json`; `source` (hex SHA-256) is of the Parquet file, as its manifest says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    columns: dict[str, _Column]


def mapped_tables(directory: Path, sources: dict[str, str]) -> dict[str, EmbeddingRows]:
    """The tables of a version that an earlier start has written, by their path in the version.

    `sources` has the SHA-256 (hex) of every part, by that path. Their parts are not needed any more.
    """
    names = {path: path.removeprefix(TABLES).removesuffix(".parquet") for path in sources}
    found = {
        path: _mapped(directory, name, sources[path])
        for path, name in names.items()
        if path == embedding_file(name)
    }
    return {path: rows for path, rows in found.items() if rows is not None}


def load_mapped(directory: Path, sources: dict[str, str], mapped: dict[str, EmbeddingRows]) -> ServingModel:
    """The version whose parts lie in `directory`, its rows mapped; `sources` as for `mapped_tables`.

    Tables that are not in `mapped`, which that function gave, are decoded from their parts, which were
    verified. Raises Corrupt naming a file of the version.
    """
    path = directory / SCHEMA_FILE
    schema = ServingSchema.from_bytes(path.read_bytes(), str(path))
    (directory / MAPPED).mkdir(exist_ok=True)
    tables = {}
    for table in schema.tables:
        found = mapped.get(table.file)
        if found is None:
            log.info("decoding table %s: %d rows", table.name, table.rows)
            _write(directory, schema, table, sources[table.file])
            found = _mapped(directory, table.name, sources[table.file])
        if found is None:
            raise Corrupt(
                f"{directory / MAPPED}: what was written of table {table.name} reads differently",
                "the disk is damaged: give another directory by --cache",
            )
        tables[table.name] = found
    return ServingModel(directory, schema, tables, "torch" if schema.onnx is None else "onnx")


def _mapped(directory: Path, name: str, source: str) -> EmbeddingRows | None:
    """None unless everything is there, belongs to `source`, and has its checksum."""
    folder = directory / MAPPED
    try:
        said = _Document.model_validate_json((folder / f"{name}.json").read_bytes())
        if said.source != source:
            return None
        columns = {part: _map(folder / f"{name}.{part}", about) for part, about in said.columns.items()}
        return EmbeddingRows(columns["id"], columns["embedding"], columns.get("scale"))
    except (OSError, ValueError, KeyError, ValidationError) as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("table %s is decoded anew: %s", name, error)
        return None


def _map(path: Path, about: _Column) -> NDArray[Any]:
    kind = np.dtype(about.dtype)
    if 0 in about.shape:
        return np.empty(about.shape, kind)
    if path.stat().st_size != kind.itemsize * int(np.prod(about.shape)):
        raise ValueError(f"{path} has another size than was written")
    found = np.memmap(path, kind, "r", 0, about.shape)
    digest, content = xxhash.xxh3_128(), found.reshape(-1).data.cast("B")
    for start in range(0, len(content), _BLOCK):
        digest.update(content[start : start + _BLOCK])
    if digest.hexdigest() != about.xxh3:
        raise ValueError(f"{path} is damaged")
    return found


def _write(directory: Path, schema: ServingSchema, table: ServingTable, source: str) -> None:
    """The document last: files without it are not looked at. Whoever has mapped older files keeps them."""
    folder = directory / MAPPED
    prefix_shift = np.uint64(64 - schema.id_scheme.prefix_bits)
    empty = EmbeddingRows.none(table.embeddings, table.dim)
    (folder / f"{table.name}.json").unlink(missing_ok=True)
    with ExitStack() as stack:
        columns = {
            name: stack.enter_context(_column(folder / f"{table.name}.{name}", part))
            for name, part in _parts(empty).items()
        }
        for rows in EmbeddingFile(directory / table.file, table.embeddings, table.dim, table.rows).chunks():
            if (rows.ids >> prefix_shift != table.prefix).any():
                raise Corrupt(
                    f"{directory / table.file} holds ids of another prefix than {table.prefix}",
                    "publish the version again under a new run",
                )
            for name, part in _parts(rows).items():
                columns[name].append(part)
    document = _Document(source=source, columns={name: column.about() for name, column in columns.items()})
    with _replaced(folder / f"{table.name}.json") as file:
        file.write(document.model_dump_json().encode())


def _parts(rows: EmbeddingRows) -> dict[str, NDArray[Any]]:
    parts: dict[str, NDArray[Any]] = {"id": rows.ids, "embedding": rows.values}
    return parts if rows.scale is None else {**parts, "scale": rows.scale}


class _ColumnWriter:
    def __init__(self, file: BinaryIO, like: NDArray[Any]) -> None:
        self._file = file
        self._dtype = like.dtype.newbyteorder("<")
        self._width = like.shape[1:]
        self._rows = 0
        self._digest = xxhash.xxh3_128()

    def append(self, part: NDArray[Any]) -> None:
        content = np.ascontiguousarray(part, self._dtype).reshape(-1).data.cast("B")
        self._file.write(content)
        self._digest.update(content)
        self._rows += len(part)

    def about(self) -> _Column:
        shape = (self._rows, *self._width)
        return _Column(dtype=self._dtype.str, shape=shape, xxh3=self._digest.hexdigest())


@contextmanager
def _column(path: Path, like: NDArray[Any]) -> Iterator[_ColumnWriter]:
    with _replaced(path) as file:
        yield _ColumnWriter(file, like)


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
