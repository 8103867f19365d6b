"""The parts of a base and of the deltas after it, opened and put in order; files are memory-mapped."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from persia_core.errors import Corrupt

_DTYPES: dict[str, np.dtype[Any]] = {
    "U64": np.dtype("<u8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<u2"),  # as bits: nothing is computed with them
    "BF16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
PART_FORMAT = "persia-embedding-2"  # as the C++ side spells it
_ROWS = (".ids", ".last_used", ".weights", ".state")
_TABLE = (".clock", ".days", ".seen_ids", ".sightings")
_HASHED_AT_ONCE = 1 << 24
_REMEDY = "name all parts of one base and of the deltas after it, as their checkpoints list them"


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def itemsize(self) -> int:
        return _DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Part:
    """One file. `cut` is None outside a chain, `follows` of anything but a delta."""

    path: Path
    metadata: dict[str, str]
    tensors: dict[str, _Tensor]
    data_start: int

    @staticmethod
    def open(path: Path) -> "Part":
        """Raises Corrupt unless the header is that of a safetensors file."""
        try:
            with safe_open(path, framework="numpy") as opened:  # checks the header against the file
                metadata = dict(opened.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise Corrupt(f"{path}: is no safetensors file: {error}", _REMEDY) from error
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        start = 8 + length
        tensors = {
            name: _Tensor(entry["dtype"], tuple(entry["shape"]), start + entry["data_offsets"][0])
            for name, entry in entries.items()
        }
        part = Part(path, metadata, tensors, start)
        part._check_header()
        return part

    def _check_header(self) -> None:
        """The checksum is of the data alone: a misspelled name must not read as a tensor that is absent."""
        if self.metadata.get("format") != PART_FORMAT:
            raise Corrupt(f"{self.path}: is no part of format {PART_FORMAT}", _REMEDY)
        needed = {f"{table}{end}" for table in self.tables for end in (".ids", ".weights")} | {"step"}
        if self.follows is not None:
            needed |= {f"{table}.removed_ids" for table in self.tables}
        known = needed | {f"{table}{end}" for table in self.tables for end in (*_ROWS, *_TABLE)}
        for name in sorted((needed - self.tensors.keys()) | (self.tensors.keys() - known)):
            has = "has a tensor" if name in self.tensors else "has no tensor"
            raise Corrupt(f"{self.path}: {has} {name}", _REMEDY)

    @property
    def cut(self) -> str | None:
        return self.metadata.get("cut")

    @property
    def follows(self) -> str | None:
        return self.metadata.get("follows")

    @property
    def tables(self) -> list[str]:
        """Their names, in the order of the file's metadata."""
        return [entry.partition("=")[0] for entry in self.metadata.get("optimizers", "").split(",") if entry]

    @property
    def rows(self) -> int:
        """Of all tables together."""
        return sum(self.tensors[f"{table}.ids"].shape[0] for table in self.tables)

    def per_row(self, table: str) -> list[str]:
        """The tensors of a table that have an entry for every row."""
        return [table + end for end in _ROWS if table + end in self.tensors]

    def of_table_alone(self, table: str) -> list[str]:
        """The tensors that say what a table remembers beside its rows."""
        return [table + end for end in _TABLE if table + end in self.tensors]

    def map(self, name: str) -> NDArray[Any]:
        """A tensor, read-only."""
        tensor = self.tensors[name]
        if 0 in tensor.shape:
            return np.empty(tensor.shape, _DTYPES[tensor.dtype])
        return np.memmap(self.path, _DTYPES[tensor.dtype], "r", tensor.offset, tensor.shape)

    def ids(self, table: str) -> NDArray[np.uint64]:
        return self.map(f"{table}.ids")

    def removed(self, table: str) -> NDArray[np.uint64]:
        """Empty but in a delta."""
        name = f"{table}.removed_ids"
        return self.map(name) if name in self.tensors else np.empty(0, np.uint64)

    def rows_at(self, name: str, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The entries at `positions`, in that order; zeros where the part has no such tensor."""
        if name not in self.tensors:
            return np.zeros(len(positions), np.uint64)
        return np.asarray(self.map(name)[positions])

    def check_data(self) -> None:
        """Raises Corrupt if the data has another checksum than the file says."""
        hashed = xxhash.xxh64(seed=0)
        with self.path.open("rb") as file:
            file.seek(self.data_start)
            while block := file.read(_HASHED_AT_ONCE):
                hashed.update(block)
        if hashed.hexdigest() != self.metadata.get("data_xxh64"):
            raise Corrupt(f"{self.path}: the data does not match its checksum", _REMEDY)


@dataclass(frozen=True)
class Link:
    """All parts of one cut."""

    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class Chain:
    """The base first, then each delta behind the one that it follows."""

    links: list[Link]

    @staticmethod
    def of(paths: list[Path]) -> "Chain":
        """Raises Corrupt naming a part that does not belong to the others."""
        left = [Part.open(path) for path in paths]
        links: list[Link] = []
        follows: str | None = None
        while link := [part for part in left if part.follows == follows]:
            other = next((part for part in link if part.cut != link[0].cut), None)
            if other is not None:
                raise Corrupt(f"{other.path}: is of another cut than {link[0].path}", _REMEDY)
            if any(part.tables != link[0].tables for part in link):
                raise Corrupt(f"{link[0].path}: has other tables than the parts beside it", _REMEDY)
            links.append(Link(link))
            left = [part for part in left if part not in link]
            follows = link[0].cut
            if follows is None:
                break
        if left or not links:
            where = f"{left[0].path}: " if left else ""
            raise Corrupt(f"{where}does not follow any cut of the parts that are here", _REMEDY)
        return Chain(links)

    @property
    def parts(self) -> list[Part]:
        """In order."""
        return [part for link in self.links for part in link.parts]

    def check_data(self) -> None:
        """Raises Corrupt naming a part whose data has another checksum than it says."""
        for part in self.parts:
            part.check_data()
