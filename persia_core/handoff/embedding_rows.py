"""Rows of an embedding table as stored: ids, and weights as float32, float16, or int8 with a scale."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["float32", "float16", "int8"]
IDS = "ids"  # ids alone, without weights

VALUES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int8": np.dtype("i1"),
    IDS: np.dtype("u1"),
}


@dataclass(frozen=True)
class EmbeddingRows:
    """Rows as they are stored: `ids` uint64 [n], `values` [n, dim], `scale` float32 [n], of int8 only."""

    ids: NDArray[np.uint64]
    values: NDArray[Any]
    scale: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: Any) -> "EmbeddingRows":
        """The rows that a slice, a mask or positions select."""
        scale = None if self.scale is None else self.scale[which]
        return EmbeddingRows(self.ids[which], self.values[which], scale)

    @property
    def weights(self) -> NDArray[np.float32]:
        """What the values stand for; float32 [n, dim]."""
        weights = self.values.astype(np.float32, copy=False)
        if self.scale is None:
            return weights
        with np.errstate(invalid="ignore"):  # a row that was not finite has an infinite scale: it gives NaN
            return weights * self.scale[:, None]

    def holds(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of `ids` [m] have a row: bool [m]. The ids here must ascend."""
        if not len(self.ids):
            return np.zeros(len(ids), np.bool_)
        position = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        held: NDArray[np.bool_] = self.ids[position] == ids
        return held

    def lookup(self, ids: NDArray[np.uint64]) -> NDArray[np.float32]:
        """The weights of `ids` [m], zeros where there is none; float32 [m, dim]. The ids here must ascend."""
        out = np.zeros((len(ids), self.values.shape[1]), np.float32)
        if len(self.ids):
            position = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
            found = self.ids[position] == ids
            out[found] = self.take(position[found]).weights
        return out

    def packed(self) -> NDArray[np.uint8]:
        """One line of bytes per row: id, values, scale, each little-endian; uint8 [n, bytes]."""
        columns = [self.ids[:, None], self.values]
        if self.scale is not None:
            columns.append(self.scale[:, None])
        return np.concatenate([_bytes(column) for column in columns], axis=1)

    @staticmethod
    def joined(pieces: "list[EmbeddingRows]") -> "EmbeddingRows":
        """The rows of all pieces, one after the other; there must be a piece."""
        scales = [piece.scale for piece in pieces if piece.scale is not None]
        return EmbeddingRows(
            np.concatenate([piece.ids for piece in pieces]),
            np.concatenate([piece.values for piece in pieces]),
            np.concatenate(scales) if scales else None,
        )

    @staticmethod
    def none(kind: str, dim: int) -> "EmbeddingRows":
        """No rows of that kind and dim."""
        values = np.empty((0, 0 if kind == IDS else dim), VALUES[kind])
        return EmbeddingRows(
            np.empty(0, np.uint64), values, np.empty(0, np.float32) if kind == "int8" else None
        )


def encode(kind: Kind, ids: NDArray[np.uint64], weights: NDArray[np.float32]) -> EmbeddingRows:
    """Rows of `kind` for float32 weights [n, dim].

    With int8 a weight is a whole number of steps of its row's largest magnitude / 127, at most half a step
    off. A row with a weight that is not finite stays so. With float16 what it cannot hold is infinite.
    """
    if kind == "float32":
        return EmbeddingRows(ids, weights)
    if kind == "float16":
        with np.errstate(over="ignore"):
            return EmbeddingRows(ids, weights.astype(np.float16))
    scale = np.abs(weights).max(axis=1) / np.float32(127.0)
    usable = np.isfinite(scale) & (scale > 0)
    steps = np.rint(np.where(usable[:, None], weights, 0) / np.where(usable, scale, 1)[:, None])
    return EmbeddingRows(ids, np.clip(steps, -127, 127).astype(np.int8), scale)


class Ahead:
    """Pieces of rows in ascending order of id, taken up to an id at a time."""

    def __init__(self, pieces: Iterable[EmbeddingRows], kind: str, dim: int) -> None:
        self._pieces = iter(pieces)
        self._none = self._held = EmbeddingRows.none(kind, dim)

    def upto(self, last: np.uint64) -> Iterator[EmbeddingRows]:
        """The rows not taken yet whose id is at most `last`; no piece is empty."""
        while True:
            end = int(np.searchsorted(self._held.ids, last, "right"))
            if end:
                yield self._held.take(slice(0, end))
            if end < len(self._held):
                self._held = self._held.take(slice(end, None))
                return
            self._held = self._none
            piece = next(self._pieces, None)
            if piece is None:
                return
            self._held = piece

    def all_upto(self, last: np.uint64) -> EmbeddingRows:
        """The same in one piece, which may be empty."""
        return EmbeddingRows.joined([self._none, *self.upto(last)])

    def rest(self) -> Iterator[EmbeddingRows]:
        """All rows not taken yet, piece by piece."""
        yield self._held
        yield from self._pieces


def _bytes(column: NDArray[Any]) -> NDArray[np.uint8]:
    rows, width = column.shape
    little = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(rows, width * column.dtype.itemsize)
