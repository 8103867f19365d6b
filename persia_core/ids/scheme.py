"""Ids: 64 bits, of which the top ones name the embedding table and the rest are a hash of the value.

    id = prefix << (64 - prefix_bits) | XXH64(seed 42, utf8(salt + value)) >> prefix_bits

The hash is an unsigned number and the shift is logical. XXH64: https://xxhash.com, specification 0.1.1.
The same function stands in C++ (`persia_core._native.make_id`) and as Spark expressions
(`spark_jobs/values.py`); tests/golden/ids.json binds the three together.
"""

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

SEED = 42  # the one that Spark's xxhash64() has built in
MISSING = "\0"  # stands for a missing value that has an id of its own
RARE = "\1"  # stands for all values that occur less often than a feature's min_count


def feature_salt(dataset_salt: str, table: str) -> str:
    """What is put before every value: features that share a table share ids, others do not."""
    return f"{dataset_salt}/{table}/"


def feature_id(prefix: int, prefix_bits: int, salt: str, value: str | None) -> int:
    """The id of a canonical value, in [0, 2**64); None is the missing value.

    Raises ValueError if `prefix` does not fit in `prefix_bits` or the text is no valid Unicode.
    """
    base = _base(prefix, prefix_bits)
    text = salt + (MISSING if value is None else value)
    return base | xxhash.xxh64_intdigest(text.encode(), seed=SEED) >> prefix_bits


def feature_ids(prefix: int, prefix_bits: int, salt: str, values: Sequence[str | None]) -> NDArray[np.uint64]:
    """The ids of canonical values, as `feature_id`; uint64, shape [len(values)]."""
    base = np.uint64(_base(prefix, prefix_bits))
    start = salt.encode()
    hashes = np.fromiter(
        (
            xxhash.xxh64_intdigest(start + (MISSING if value is None else value).encode(), seed=SEED)
            for value in values
        ),
        dtype=np.uint64,
        count=len(values),
    )
    return base | (hashes >> np.uint64(prefix_bits))


def _base(prefix: int, prefix_bits: int) -> int:
    if not 1 <= prefix_bits <= 16:
        raise ValueError(f"prefix_bits must be in [1, 16], got {prefix_bits}")
    if not 0 <= prefix < 1 << prefix_bits:
        raise ValueError(f"prefix {prefix} does not fit in {prefix_bits} bits")
    return prefix << (64 - prefix_bits)
