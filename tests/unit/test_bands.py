"""Ranges of what may be expected, against figures worked out by hand and against drawing at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core.validation.bands import (
    distinct_range,
    factor_range,
    margin_range,
    odds_range,
    share_range,
)

MANY = 10**12  # rows: chance is next to nothing


def test_a_factor_reaches_both_ways() -> None:
    assert factor_range([40, 100, 60], 2.0) == (20.0, 200.0)
    assert factor_range([40], 1.0) == (40.0, 40.0)


def test_a_margin_is_in_units() -> None:
    assert margin_range([1.0, 3.0], 0.5) == (0.5, 3.5)
    assert margin_range([1.0, 3.0], 0.5, unit=4.0) == (-1.0, 5.0)


def test_odds_of_a_rate() -> None:
    # 0.2 is 1 to 4, 0.5 is 1 to 1; half of that 1 to 8, double of that 2 to 1.
    assert odds_range([0.5, 0.2, 0.3], 2.0, MANY) == pytest.approx((1 / 9, 2 / 3), abs=1e-5)


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(1, 100), st.integers(1, 10**6))
def test_a_rate_that_was_there_is_expected(rates: list[float], factor: float, rows: int) -> None:
    low, high = odds_range(rates, factor, rows)
    assert 0 <= low <= min(rates) + 1e-12 and max(rates) - 1e-12 <= high <= 1


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0, 1), st.integers(1, 10**6))
def test_a_share_that_was_there_is_expected(shares: list[float], margin: float, rows: int) -> None:
    low, high = share_range(shares, margin, rows)
    assert 0 <= low <= min(shares) and max(shares) <= high <= 1


@pytest.mark.parametrize("rate", [0.0, 0.004, 0.3, 0.97])
@pytest.mark.parametrize("rows", [20, 500, 20_000])
def test_chance_alone_is_hardly_ever_out_of_range(rate: float, rows: int) -> None:
    found = np.random.default_rng(7).binomial(rows, rate, 20_000) / rows
    for low, high in (odds_range([rate], 1.0, rows), share_range([rate], 0.0, rows)):
        assert np.mean((found < low) | (found > high)) < 0.002


def test_a_share_far_off_is_out_of_range_for_all_its_chance() -> None:
    low, high = share_range([0.0], 0.05, 10_000)
    assert low == 0.0
    assert high == pytest.approx(0.05 + 4 * (0.05 * 0.95 / 10_000) ** 0.5)


@pytest.mark.parametrize("rows", [50, 1000, 30_000])
def test_distinct_values_of_a_partition_of_other_size_are_expected(rows: int) -> None:
    """The same distribution, drawn twice: of few values, of ever new ones, and of a long tail."""
    rng = np.random.default_rng(3)

    def draws(count: int) -> list[int]:
        return [
            len(set(rng.integers(0, 7, count).tolist())),
            len(set(rng.integers(0, 2**62, count).tolist())),
            len(set(rng.zipf(1.3, count).tolist())),
        ]

    for then, now in zip(draws(1000), draws(rows), strict=True):
        low, high = distinct_range([(then, 1000)], 1.2, rows)
        assert low <= now <= high


def test_the_ends_of_the_range_of_distinct_values() -> None:
    assert distinct_range([(100, 1000), (40, 500)], 2.0, 500) == (20.0, 200.0)
    assert distinct_range([(100, 1000), (40, 500)], 2.0, 2000) == (20.0, 400.0)
