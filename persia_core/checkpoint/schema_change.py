"""A checkpoint of other tables than the configuration has: what is added, dropped, or cannot be.

The embedding servers load parts of exactly their tables. So parts of other ones are rewritten before, in the
directory that they were fetched to.
"""

import json
import logging
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from persia_core.checkpoint.layout import is_embedding_part
from persia_core.checkpoint.tables import PartHeader, part_header, weight_dtype
from persia_core.config import ModelConfig
from persia_core.config.features import EmbeddingTable
from persia_core.errors import ConfigError
from persia_core.handoff.manifest import Manifest, digest_of, part_of

log = logging.getLogger(__name__)

_ELEMENT_BYTES = {"U64": 8, "F32": 4, "BF16": 2, "F16": 2, "U8": 1}
_BLOCK = 1 << 20
_OPTIMIZERS, _CHECKSUM = "optimizers", "data_xxh64"


@dataclass(frozen=True)
class SchemaChange:
    """Tables that begin empty, and the number of rows that were dropped of each table that is no more."""

    new_tables: list[str]
    dropped_rows: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return {"new_tables": self.new_tables, "dropped_rows": self.dropped_rows}


def fit_to_schema(
    config: ModelConfig, directory: Path, manifest: Manifest
) -> tuple[Manifest, SchemaChange | None]:
    """Make the checkpoint in `directory`, whose parts are verified, one of the configuration's tables.

    Returns the manifest of what lies there then; with None nothing had to be changed. Raises ConfigError
    naming the table and both values where dim, optimizer, weight type, optimizer state or prefix differ; no
    file is changed then.
    """
    names = [part.path for part in manifest.parts if is_embedding_part(part.path)]
    headers = {name: part_header(directory / name) for name in names}
    saved = {name: _saved_tables(header) for name, header in headers.items()}
    for name, header in headers.items():
        for table in config.tables:
            if table.name in saved[name]:
                _check_same(config, table, saved[name][table.name], header, directory / name)
    wanted = [(table.name, table.optimizer.kind) for table in config.tables]
    if all(list(tables.items()) == wanted for tables in saved.values()):
        return manifest, None
    before = {name for tables in saved.values() for name in tables}
    dropped = {
        name: sum(header.tensors[f"{name}.ids"].shape[0] for header in headers.values())
        for name in sorted(before - {table.name for table in config.tables})
    }
    change = SchemaChange([t.name for t in config.tables if t.name not in before], dropped)
    parts = []
    for part in manifest.parts:
        if part.path in headers:
            rows = _rewrite(directory / part.path, headers[part.path], config)
            parts.append(part_of(directory, directory / part.path, rows))
        else:
            parts.append(part)
    for name in change.new_tables:
        log.info("table %s is new: it begins without rows", name)
    for name, count in dropped.items():
        log.warning("table %s is no more: its %d rows are dropped", name, count)
    return manifest.model_copy(update={"parts": parts, "digest": digest_of(parts)}), change


def _saved_tables(header: PartHeader) -> dict[str, str]:
    """Table -> kind of its optimizer, in the order of the part."""
    entries = (entry.partition("=") for entry in header.metadata[_OPTIMIZERS].split(","))
    return {table: kind for table, _, kind in entries}


def _check_same(
    config: ModelConfig, table: EmbeddingTable, optimizer: str, header: PartHeader, path: Path
) -> None:
    weights, state = header.tensors[f"{table.name}.weights"], header.tensors.get(f"{table.name}.state")
    facts: list[tuple[str, object, object]] = [
        ("dim", weights.shape[1], table.dim),
        ("optimizer", optimizer, table.optimizer.kind),
        ("weight type", weights.dtype, weight_dtype(table.weight_type)),
        ("floats of optimizer state", state.shape[1] if state is not None else 0, table.state_dim),
    ]
    ids = header.tensors[f"{table.name}.ids"]
    if ids.shape[0]:
        with path.open("rb") as file:
            file.seek(ids.offset)
            first = int.from_bytes(file.read(8), "little")
        facts.append(("prefix", first >> (64 - config.dataset.prefix_bits), table.prefix))
    for what, old, new in facts:
        if old != new:
            raise ConfigError(
                f"table {table.name} has {what} {new} in the configuration and {old} in the checkpoint "
                f"that the run starts from ({path.name})",
                "undo the change; or give the table another name and prefix: it begins without rows, and "
                "those of the old one are dropped",
            )


def _rewrite(path: Path, header: PartHeader, config: ModelConfig) -> int:
    """The part with the tables of the configuration, copied tensor by tensor; returns its number of rows."""
    kept = {
        name: (tensor.dtype, tensor.shape, tensor.offset)
        for name, tensor in header.tensors.items()
        if name == "step" or any(name.startswith(f"{table.name}.") for table in config.tables)
    }
    for table in config.tables:
        if f"{table.name}.ids" not in kept:
            kept[f"{table.name}.ids"] = ("U64", (0,), 0)
            kept[f"{table.name}.weights"] = (weight_dtype(table.weight_type), (0, table.dim), 0)
            if table.state_dim:
                kept[f"{table.name}.state"] = ("F32", (0, table.state_dim), 0)
    ordered = sorted(kept.items(), key=lambda item: -_ELEMENT_BYTES[item[1][0]])
    entries: dict[str, Any] = {}
    metadata = header.metadata | {
        _OPTIMIZERS: ",".join(f"{table.name}={table.optimizer.kind}" for table in config.tables),
        _CHECKSUM: "0" * 16,
    }
    at = 0
    for name, (dtype, shape, _) in ordered:
        end = at + _bytes(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    checksum, temporary = xxhash.xxh64(seed=0), path.with_suffix(".rewritten")
    with path.open("rb") as source, temporary.open("wb") as target:
        target.write(_start_of_file(metadata, entries))
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            for _, (dtype, shape, offset) in ordered:
                end = offset + _bytes(dtype, shape)
                for begin in range(offset, end, _BLOCK):
                    block = memory[begin : min(begin + _BLOCK, end)]
                    checksum.update(block)
                    target.write(block)
        target.seek(0)
        target.write(_start_of_file(metadata | {_CHECKSUM: checksum.hexdigest()}, entries))
    temporary.replace(path)
    return sum(shape[0] for name, (_, shape, _) in kept.items() if name.endswith(".ids"))


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    size = _ELEMENT_BYTES[dtype]
    for extent in shape:
        size *= extent
    return size


def _start_of_file(metadata: dict[str, str], entries: dict[str, Any]) -> bytes:
    text = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
