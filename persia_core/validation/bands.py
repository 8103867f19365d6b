"""What may be expected of a figure, given that of earlier partitions: ranges, both ends included."""

import math
from collections.abc import Sequence

Range = tuple[float, float]

_STANDARD_ERRORS = 4.0  # that a share may be off by chance alone


def factor_range(values: Sequence[float], factor: float) -> Range:
    """From the least value divided by `factor` to the greatest times it."""
    return min(values) / factor, max(values) * factor


def margin_range(values: Sequence[float], margin: float, unit: float = 1.0) -> Range:
    """From `margin` units below the least value to as much above the greatest."""
    return min(values) - margin * unit, max(values) + margin * unit


def distinct_range(past: Sequence[tuple[int, int]], factor: float, rows: int) -> Range:
    """Of distinct values among `rows` rows; `past`: (distinct values, rows) of earlier partitions, rows > 0.

    In expectation n rows hold a concave function of n of them, so a partition of other size lies between
    as many as there were, and that in proportion to its rows. Beyond this range comes the factor.
    """
    low = min(distinct * min(1.0, rows / then) for distinct, then in past)
    high = max(distinct * max(1.0, rows / then) for distinct, then in past)
    return low / factor, high * factor


def odds_range(rates: Sequence[float], factor: float, rows: int) -> Range:
    """Of a rate among `rows` rows: its odds may be off by `factor`, and the rate by chance.

    Odds, because twice a rate of 0.6 is none, and for small rates they are the rate.
    """
    low, high = min(rates), max(rates)
    less = low / (low + factor * (1.0 - low))
    more = factor * high / (factor * high + 1.0 - high)
    return max(0.0, less - _chance(less, rows)), min(1.0, more + _chance(more, rows))


def share_range(shares: Sequence[float], margin: float, rows: int) -> Range:
    """Of a share among `rows` rows: it may be off by `margin`, and by chance."""
    low, high = margin_range(shares, margin)
    low, high = max(0.0, low), min(1.0, high)
    return max(0.0, low - _chance(low, rows)), min(1.0, high + _chance(high, rows))


def _chance(share: float, rows: int) -> float:
    """Four standard errors of a share of `rows` rows; at the ends of its range those of a single row."""
    share = min(max(share, 1.0 / rows), 1.0 - 1.0 / rows) if rows > 1 else 0.5
    return _STANDARD_ERRORS * math.sqrt(share * (1.0 - share) / rows)
