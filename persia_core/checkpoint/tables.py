"""Reading the embedding tables of a checkpoint without loading them: the files are memory-mapped."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from persia_core.checkpoint.layout import is_embedding_part
from persia_core.errors import Corrupt

_WEIGHT_TYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "float32": ("F32", np.dtype("<f4")),
    "float16": ("F16", np.dtype("<f2")),
    "bfloat16": ("BF16", np.dtype("<u2")),  # numpy has none
}
_REMEDY = "the checkpoint was damaged or written by something else; train the partition again"


@dataclass(frozen=True)
class TableShard:
    """The rows of one table on one server: `ids` uint64 [n] and `weights` [n, dim], read-only maps.

    `weights` are as the file has them: float32, float16, or for bfloat16 the upper half of float32 as uint16.
    """

    ids: NDArray[np.uint64]
    weights: NDArray[Any]

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The weights at `positions`, in that order; float32 [len(positions), dim]."""
        found = self.weights[positions]
        if found.dtype == np.uint16:
            return (found.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return found.astype(np.float32, copy=False)


def embedding_files(directory: Path) -> list[Path]:
    """The files of all servers, in order of name."""
    return sorted(path for path in directory.iterdir() if is_embedding_part(path.name))


def table_shards(files: list[Path], table: str, dim: int, weight_type: str = "float32") -> list[TableShard]:
    """One shard of `table` per file that has it. Raises Corrupt naming file and tensor."""
    shards = []
    for path in files:
        header = part_header(path).tensors
        ids_name, weights_name = f"{table}.ids", f"{table}.weights"
        if ids_name not in header and weights_name not in header:
            continue
        ids = _map(path, header, ids_name, "U64", np.dtype("<u8"))
        weights = _map(path, header, weights_name, *_WEIGHT_TYPES[weight_type])
        if ids.ndim != 1 or weights.shape != (ids.shape[0], dim):
            raise Corrupt(
                f"{path}: table {table} has ids {list(ids.shape)} and weights {list(weights.shape)}, "
                f"expected [n] and [n, {dim}]",
                _REMEDY,
            )
        shards.append(TableShard(ids, weights))
    return shards


@dataclass(frozen=True)
class PartTensor:
    """A tensor of a file; `offset` is in the file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class PartHeader:
    """What an embedding part says of itself, by the name of the tensor."""

    tensors: dict[str, PartTensor]
    metadata: dict[str, str]


def weight_dtype(weight_type: str) -> str:
    """How safetensors calls the `weight_type` of a table."""
    return _WEIGHT_TYPES[weight_type][0]


def part_header(path: Path) -> PartHeader:
    """The header, checked against the file. Raises Corrupt naming the file."""
    try:
        with safe_open(path, framework="numpy"):
            pass  # the package checks the header against the file: sizes, overlaps, bounds
    except (SafetensorError, OSError) as error:
        raise Corrupt(f"{path}: is no safetensors file: {error}", _REMEDY) from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    metadata = entries.pop("__metadata__", {})
    if "follows" in metadata:
        raise Corrupt(f"{path}: is a delta: its table is elsewhere", "compact it with its base first")
    tensors = {
        name: PartTensor(entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in entries.items()
    }
    return PartHeader(tensors, metadata)


def _map(
    path: Path, header: dict[str, PartTensor], name: str, dtype: str, kind: np.dtype[Any]
) -> NDArray[Any]:
    tensor = header.get(name)
    if tensor is None or tensor.dtype != dtype:
        found = "is missing" if tensor is None else f"is {tensor.dtype}"
        raise Corrupt(f"{path}: tensor {name} {found}, expected {dtype}", _REMEDY)
    if 0 in tensor.shape:  # nothing to map
        return np.empty(tensor.shape, kind)
    return np.memmap(path, kind, "r", tensor.offset, tensor.shape)
