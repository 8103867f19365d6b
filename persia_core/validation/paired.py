"""Two models on the same rows: by how much they differ, and how sure that is.

AUC: the test of DeLong, DeLong and Clarke-Pearson (1988) for two correlated AUCs, by the algorithm of Sun
and Xu (2014), which takes the structural components from ranks in O(n log n). Its statistic is normal.
Normalised entropy: the paired t-test on the rows' differences of log-loss. All rows share one base rate, so
the difference of normalised entropies is that of log-losses over the entropy of the base rate.

Both take rows as independent of each other. With weights, means are weighted, and their variances are those
over drawing rows together with their weights; weights of 1 give the tests as printed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persia_core.training.metrics import Array, checked, log_losses
from persia_core.validation.verdict import finite

Metrics = Mapping[str, Any]  # what training.metrics.summary returns


@dataclass(frozen=True)
class Difference:
    """One metric of two models. `ours` and `theirs` are None where the metric is undefined.

    `standard_error` is of `ours - theirs`; None where it is unknown: the models were not compared row by
    row, or there are fewer than two rows of a class. `degrees` of freedom of the t distribution; None
    for the normal one.
    """

    ours: float | None
    theirs: float | None
    standard_error: float | None = None
    degrees: int | None = None

    def margin_of_error(self, confidence: float) -> float | None:
        """How far the true difference may lie on one side of the estimate, with that confidence."""
        if self.standard_error is None:
            return None
        if self.degrees is None:
            quantile = NormalDist().inv_cdf(confidence)
        else:
            from scipy.special import stdtrit

            quantile = float(stdtrit(self.degrees, confidence))
        return quantile * self.standard_error


@dataclass(frozen=True)
class Comparison:
    """Two models on the same `rows`."""

    rows: int
    auc: Difference
    normalised_entropy: Difference


def compare(
    labels: ArrayLike, ours: ArrayLike, theirs: ArrayLike, weights: ArrayLike | None = None
) -> Comparison:
    """Compare two models row by row: labels 0 or 1, probabilities, weights of the rows; shapes [n]."""
    label, first, weight = checked(labels, ours, weights)
    _, second, _ = checked(labels, theirs, weights)
    entropies = _entropies(label, first, second, weight)
    return Comparison(label.size, delong(label, first, second, weight), entropies)


def compare_summaries(ours: Metrics, theirs: Metrics) -> Comparison:
    """Compare two models by their metrics on the same rows alone: how sure that is, is unknown."""
    rows = ours.get("rows")
    return Comparison(
        rows if isinstance(rows, int) else 0,
        Difference(finite(ours.get("auc")), finite(theirs.get("auc"))),
        Difference(finite(ours.get("normalised_entropy")), finite(theirs.get("normalised_entropy"))),
    )


def delong(labels: Array, ours: Array, theirs: Array, weights: Array | None = None) -> Difference:
    """The AUCs of two models on the same rows, and the standard error of their difference; shapes [n]."""
    weights = np.ones(labels.size) if weights is None else weights
    positive = labels == 1.0
    counts = [int(np.count_nonzero(weights[members])) for members in (positive, ~positive)]
    defined = [min(counts) > 0 and not np.isnan(score).any() for score in (ours, theirs)]
    components = [
        _components(positive, score, weights) if known else None
        for score, known in zip((ours, theirs), defined, strict=True)
    ]
    of = weights[positive]
    values = [None if found is None else float(np.average(found[0], weights=of)) for found in components]
    first, second = components
    if first is None or second is None or min(counts) < 2:
        return Difference(values[0], values[1])
    variance = _variance_of_mean(first[0] - second[0], of)
    variance += _variance_of_mean(first[1] - second[1], weights[~positive])
    return Difference(values[0], values[1], math.sqrt(variance))


def _components(positive: NDArray[np.bool_], score: Array, weights: Array) -> tuple[Array, Array]:
    """Of each positive the share of negatives that it beats, of each negative that of positives above it.

    Ties count half, and shares are of weights. Both have the AUC as their mean.
    """
    _, place = np.unique(score, return_inverse=True)
    up = np.bincount(place, weights * positive).astype(np.float64)  # weight at each distinct score, ascending
    down = np.bincount(place, weights * ~positive).astype(np.float64)
    beaten = (_before(down) + down / 2.0) / down.sum()
    above = (_before(up[::-1])[::-1] + up / 2.0) / up.sum()
    return beaten[place[positive]], above[place[~positive]]


def _before(values: Array) -> Array:
    """At each place the sum of the values before it."""
    return np.concatenate([[0.0], np.cumsum(values)[:-1]])


def _variance_of_mean(values: Array, weights: Array) -> float:
    """Of the weighted mean, over drawing rows with their weights; at least two weights are not 0."""
    rows = int(np.count_nonzero(weights))
    off = weights * (values - np.average(values, weights=weights))
    return float((off**2).sum() / weights.sum() ** 2 * rows / (rows - 1))


def _entropies(labels: Array, ours: Array, theirs: Array, weights: Array) -> Difference:
    rate = float(np.average(labels, weights=weights)) if weights.any() else 0.0
    if not 0.0 < rate < 1.0:
        return Difference(None, None)
    base = -(rate * math.log(rate) + (1.0 - rate) * math.log1p(-rate))
    losses = [log_losses(labels, scores) / base for scores in (ours, theirs)]
    values = [finite(float(np.average(loss, weights=weights))) for loss in losses]
    rows = int(np.count_nonzero(weights))
    if values[0] is None or values[1] is None or rows < 2:
        return Difference(values[0], values[1])
    return Difference(
        values[0], values[1], math.sqrt(_variance_of_mean(losses[0] - losses[1], weights)), rows - 1
    )
