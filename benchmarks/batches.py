"""Batches of ids for embedding tables: Zipf or uniform, the same for every contestant."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PREFIX = 1
PREFIX_BITS = 8
ZIPF_EXPONENT = 1.05
DISTRIBUTIONS = ("zipf", "uniform")


@dataclass(frozen=True)
class Batch:
    """`rows`: int64 [n], row numbers, for tables that are arrays; `ids`: uint64 [n], for hashed ones."""

    rows: NDArray[np.int64]
    ids: NDArray[np.uint64]


def ids_of(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One id per row number: the prefix, and 56 bits of SplitMix64's finaliser, distinct for
    tens of millions of rows (their mixing is a bijection, of which 8 bits are cut off).

    Never 0. Python's `mix64` takes one number, so it is written out here for arrays.
    """
    z = rows.astype(np.uint64) + np.uint64(1)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(PREFIX_BITS)) | np.uint64(PREFIX << (64 - PREFIX_BITS))


def make_batches(distribution: str, table_rows: int, batches: int, size: int, seed: int) -> list[Batch]:
    """Batches of `size` ids. Zipf: P(rank) ~ rank^-1.05 over all rows, ranks scattered over the table."""
    rng = np.random.default_rng(seed)
    if distribution == "uniform":
        drawn = rng.integers(0, table_rows, (batches, size))
    else:
        cumulative = np.cumsum(np.arange(1, table_rows + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
        uniform = rng.random((batches, size)) * cumulative[-1]
        ranks = np.minimum(np.searchsorted(cumulative, uniform), table_rows - 1)
        drawn = rng.permutation(table_rows)[ranks]
    return [Batch(rows=rows, ids=ids_of(rows)) for rows in drawn]
