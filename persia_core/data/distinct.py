"""How many distinct values a column has, approximately, in bounded memory.

The k smallest hashes are kept: exact below k, and (k - 1) / (k-th smallest, as a fraction of the hash
range) above, with a standard error of 1 / sqrt(k - 2), here 1.6 %. Bar-Yossef et al. 2002, "Counting
distinct elements in a data stream"; the unbiased form is of Beyer et al. 2007. The result does not
depend on the order of the values.
"""

import numpy as np
from numpy.typing import NDArray

_K = 4096


class DistinctCounter:
    """Counts distinct 64-bit keys."""

    def __init__(self) -> None:
        self._smallest = np.empty(0, dtype=np.uint64)

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Take in keys, shape [n]; they need not be hashes."""
        hashes = _mix64(keys)
        if len(self._smallest) == _K:
            hashes = hashes[hashes < self._smallest[-1]]
        if len(hashes):
            self._smallest = np.unique(np.concatenate([self._smallest, hashes]))[:_K]

    @property
    def estimate(self) -> int:
        """The number of distinct keys taken in so far."""
        if len(self._smallest) < _K:
            return len(self._smallest)
        return round((_K - 1) / ((int(self._smallest[-1]) + 1) / 2.0**64))


def _mix64(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014), a bijection; overflow is meant."""
    mixed = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result
