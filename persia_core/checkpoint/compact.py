"""A base and its deltas as one base, by files alone: no server is asked."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from persia_core.checkpoint.chain import Chain, Link, Part
from persia_core.checkpoint.layout import embedding_part

_BLOCK_ROWS = 1 << 14
_HEADER_UNIT = 8


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    blocks: Iterator[NDArray[Any]]


@dataclass(frozen=True)
class _Rows:
    """The rows of a table in one new part, ids ascending: ids[i] is in part source[i], at position at[i]."""

    ids: NDArray[np.uint64]
    source: NDArray[np.int32]
    at: NDArray[np.int64]


def compact(paths: list[Path], directory: Path) -> list[Path]:
    """Write the parts of a base that holds what the base and all deltas among `paths` hold together.

    Whoever loads them has the rows, states and counters of the last cut, whose number they carry: a delta
    that follows it may follow them. There is one part for each part of the last cut, in `directory`, which
    must hold none of them yet. Memory: some 60 bytes per row of a table, and a block of rows. Raises Corrupt
    naming a part that is damaged or does not belong to the others.
    """
    chain = Chain.of(paths)
    chain.check_data()
    written = []
    for number, last in enumerate(chain.links[-1].parts):
        path = directory / embedding_part(number)
        _write(path, last, list(_tensors(chain, number, last)), chain.links[-1])
        written.append(path)
    return written


def _tensors(chain: Chain, number: int, last: Part) -> Iterator[_Tensor]:
    for table in last.tables:
        rows = _rows_of(chain, table, number, len(chain.links[-1].parts))
        for name in last.per_row(table):
            first = last.tensors[name]
            yield _Tensor(
                name, first.dtype, (len(rows.ids), *first.shape[1:]), _gather(chain.parts, name, rows)
            )
        for name in last.of_table_alone(table):
            kept = last.tensors[name]
            yield _Tensor(name, kept.dtype, kept.shape, iter([last.map(name)]))
    step = last.tensors["step"]
    yield _Tensor("step", step.dtype, step.shape, iter([last.map("step")]))


def _rows_of(chain: Chain, table: str, server: int, servers: int) -> _Rows:
    """The newest version of every id that is left, of those that belong to `server`."""
    from persia_core import _native

    ids: NDArray[np.uint64] = np.empty(0, np.uint64)
    source: NDArray[np.int32] = np.empty(0, np.int32)
    at: NDArray[np.int64] = np.empty(0, np.int64)
    number = 0
    for link in chain.links:
        for part in link.parts:
            mine = np.flatnonzero(_native.server_of(part.ids(table), servers) == server)
            new = part.ids(table)[mine]
            old = ~np.isin(ids, np.concatenate([new, part.removed(table)]), kind="sort")
            ids = np.concatenate([ids[old], new])
            source = np.concatenate([source[old], np.full(len(new), number, np.int32)])
            at = np.concatenate([at[old], mine])
            number += 1
    order = np.argsort(ids)
    return _Rows(ids[order], source[order], at[order])


def _gather(parts: list[Part], name: str, rows: _Rows) -> Iterator[NDArray[Any]]:
    for start in range(0, len(rows.ids), _BLOCK_ROWS):
        source = rows.source[start : start + _BLOCK_ROWS]
        at = rows.at[start : start + _BLOCK_ROWS]
        found = [(number, np.flatnonzero(source == number)) for number in np.unique(source)]
        values = [parts[number].rows_at(name, at[chosen]) for number, chosen in found]
        block = np.empty((len(at), *values[0].shape[1:]), values[0].dtype)
        for (_, chosen), some in zip(found, values, strict=True):
            block[chosen] = some
        yield block


def _write(path: Path, last: Part, tensors: list[_Tensor], link: Link) -> None:
    """One part, in the layout of docs/formats/wire.md: large elements first, the checksum of all data."""
    tensors.sort(key=lambda tensor: -last.tensors[tensor.name].itemsize)  # stable
    entries: dict[str, Any] = {}
    end = 0
    for tensor in tensors:
        size = int(np.prod(tensor.shape, dtype=np.int64)) * last.tensors[tensor.name].itemsize
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + size],
        }
        end += size
    metadata = {key: value for key, value in last.metadata.items() if key not in ("follows", "data_xxh64")}

    def header(checksum: str) -> bytes:
        document = {"__metadata__": metadata | {"data_xxh64": checksum}} | entries
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _HEADER_UNIT)
        return len(text).to_bytes(8, "little") + text

    hashed = xxhash.xxh64(seed=0)
    temporary = path.with_suffix(".tmp")
    with temporary.open("xb") as file:
        file.write(header("0" * 16))
        for tensor in tensors:
            for block in tensor.blocks:
                data = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
                hashed.update(data)
                file.write(data)
        file.seek(0)
        file.write(header(hashed.hexdigest()))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
