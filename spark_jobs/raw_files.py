"""Raw files as they arrive: what each one is, and which columns it has, before Spark reads it."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

from persia_core.config.model import Dataset
from persia_core.errors import DataInvalid

Format = Literal["csv", "tsv", "parquet", "jsonl"]

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "csv": (".csv", ".csv.gz", ".data", ".test"),
    "tsv": (".tsv", ".tsv.gz"),
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".jsonl.gz", ".json", ".json.gz"),
}
_PEEK_BYTES = 1 << 20
_PEEK_RECORDS = 1000
_BLANK = "".join(map(chr, range(33)))


@dataclass(frozen=True)
class RawFile:
    """A raw file. `location`: its path, or its URI for Spark where executors fetch it themselves.

    `name` is how people know it (its URI in the store), `size` in bytes as it lies there. `open` gives the
    driver its bytes from the start.
    """

    location: str
    name: str
    size: int
    open: Callable[[], BinaryIO] = field(compare=False, repr=False)


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def local_file(path: Path, name: str) -> RawFile:
    """A raw file on local disk."""
    path = path.absolute()
    return RawFile(str(path), name, path.stat().st_size, partial(_open, path))


def suffix_of(name: str, file_format: Format) -> str | None:
    """The ending of `name` that says it is of `file_format`; None if it has none."""
    return next((suffix for suffix in SUFFIXES[file_format] if name.endswith(suffix)), None)


@dataclass(frozen=True)
class Header:
    """`columns`: name -> type, in the file's order; {} if the file holds nothing. Text has the type "text".

    `line`: that of the header, from 0; None if there is none.
    """

    columns: dict[str, str]
    line: int | None = None


def header_of(file: RawFile, dataset: Dataset) -> Header:
    """Which columns a file has, as far as its start tells.

    csv and tsv: the header, or `dataset.columns`. parquet: the schema. jsonl: the keys of the first 1000
    records. Raises DataInvalid, naming the file, if it is not of that format.
    """
    if file.size == 0:
        return Header({})
    if dataset.format == "parquet":
        return Header(_parquet_columns(file))
    text = _peek(file)
    if not text.strip():
        return Header({})
    if dataset.format == "jsonl":
        return Header(dict.fromkeys(_json_keys(file, text), "text"))
    if dataset.columns is not None:
        return Header(dict.fromkeys(dataset.columns, "text"))
    number, line = _first_line(text, dataset.comment)
    return Header(dict.fromkeys(_header(file, dataset, line), "text"), number)


def _first_line(text: str, comment: str | None) -> tuple[int, str]:
    """The first line, with its number from 0, that is neither blank nor a comment; else ''."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text)):
        if line.strip(_BLANK) and not (comment is not None and line.startswith(comment)):
            return number, line
    return 0, ""


def _peek(file: RawFile) -> str:
    """The first MiB of the text, up to its last whole line."""
    try:
        with file.open() as packed:
            plain = gzip.GzipFile(fileobj=packed) if file.location.endswith(".gz") else packed
            data = plain.read(_PEEK_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataInvalid(
            f"{file.name} cannot be unpacked: {error}", "deliver the file again; it was cut or damaged"
        ) from error
    if b"\0" in data:
        raise _not_text(file, "it holds zero bytes")
    if len(data) == _PEEK_BYTES:
        data = data[: data.rfind(b"\n") + 1] or data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(file, f"byte {error.start} is no UTF-8") from error


def _not_text(file: RawFile, why: str) -> DataInvalid:
    return DataInvalid(
        f"{file.name} is not text: {why}",
        "deliver it as UTF-8 text, or name its real format in dataset.format",
    )


def _header(file: RawFile, dataset: Dataset, line: str) -> list[str]:
    if dataset.format == "tsv":
        names = line.split("\t")
    else:
        try:
            names = next(csv.reader([line]), [])
        except csv.Error as error:
            raise DataInvalid(f"{file.name} has no CSV header: {error}", "deliver the file again") from error
    if dataset.trim:
        names = [name.strip(_BLANK) for name in names]
    for name in names:
        if names.count(name) > 1:
            raise DataInvalid(f"{file.name} has two columns called {name!r}", "rename one of them")
    return names


def _json_keys(file: RawFile, text: str) -> list[str]:
    keys: dict[str, None] = {}
    for number, line in enumerate(text.splitlines()[:_PEEK_RECORDS], start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            keys |= dict.fromkeys(record)
        elif number == 1:
            raise DataInvalid(
                f"{file.name} is not JSON lines: line 1 is no JSON object",
                "write one JSON object per line, or name the file's real format in dataset.format",
            )
    return list(keys)


def _parquet_columns(file: RawFile) -> dict[str, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open() as stream:
            schema = pq.read_schema(stream)
    except (pa.ArrowException, OSError) as error:
        raise DataInvalid(
            f"{file.name} is not Parquet: {error}",
            "deliver the file again, or name its real format in dataset.format",
        ) from error
    return {field.name: str(field.type) for field in schema}
