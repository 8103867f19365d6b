"""The approximate distinct counter against a set."""

import numpy as np
import pytest

from persia_core.data.distinct import DistinctCounter


def _count(keys: np.ndarray, batch: int) -> int:
    counter = DistinctCounter()
    for start in range(0, len(keys), batch):
        counter.add(keys[start : start + batch])
    return counter.estimate


@pytest.mark.parametrize("distinct", [0, 1, 1000, 4095])
def test_small_numbers_are_exact(distinct: int) -> None:
    keys = np.random.default_rng(1).permutation(np.repeat(np.arange(distinct, dtype=np.uint64), 5))
    assert _count(keys, 777) == distinct


@pytest.mark.parametrize("distinct", [4096, 10_000, 300_000])
@pytest.mark.parametrize("step", [1, 2**40])
def test_large_numbers_are_within_five_standard_errors(distinct: int, step: int) -> None:
    """Keys in arithmetic progression: as far from random as can be."""
    keys = np.arange(distinct, dtype=np.uint64) * np.uint64(step)
    distinct = len(set(keys.tolist()))
    assert _count(keys, 65_536) == pytest.approx(distinct, rel=5 / 4096**0.5)


def test_the_estimate_depends_on_the_set_of_keys_alone() -> None:
    rng = np.random.default_rng(2)
    keys = rng.integers(0, 2**64, 20_000, dtype=np.uint64)
    assert _count(keys, 20_000) == _count(rng.permutation(np.concatenate([keys, keys])), 999)
