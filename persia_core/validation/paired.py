"""Two models on the same rows: by how much they differ, and how sure that is.

AUC: the test of DeLong, DeLong and Clarke-Pearson (1988) for two correlated AUCs, by the algorithm of Sun
and Xu (2014), which takes the structural components from midranks in O(n log n). Its statistic is normal.
Normalised entropy: the paired t-test on the rows' differences of log-loss. All rows share one base rate, so
the difference of normalised entropies is that of log-losses over the entropy of the base rate.

Both take rows as independent of each other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persia_core.training.metrics import log_losses, pair
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


def compare(labels: ArrayLike, ours: ArrayLike, theirs: ArrayLike) -> Comparison:
    """Compare two models row by row: labels 0 or 1, probabilities; shapes [n]."""
    label, first = pair(labels, ours)
    _, second = pair(labels, theirs)
    return Comparison(label.size, delong(label, first, second), _entropies(label, first, second))


def compare_summaries(ours: Metrics, theirs: Metrics) -> Comparison:
    """Compare two models by their metrics on the same rows alone: how sure that is, is unknown."""
    rows = ours.get("rows")
    return Comparison(
        rows if isinstance(rows, int) else 0,
        Difference(finite(ours.get("auc")), finite(theirs.get("auc"))),
        Difference(finite(ours.get("normalised_entropy")), finite(theirs.get("normalised_entropy"))),
    )


def delong(labels: NDArray[np.float64], ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Difference:
    """The AUCs of two models on the same rows, and the standard error of their difference; shapes [n]."""
    positive = labels == 1.0
    positives = int(positive.sum())
    negatives = labels.size - positives
    defined = [positives > 0 and negatives > 0 and not np.isnan(score).any() for score in (ours, theirs)]
    components = [
        _components(positive, score) if known else None
        for score, known in zip((ours, theirs), defined, strict=True)
    ]
    values = [None if found is None else float(found[0].mean()) for found in components]
    first, second = components
    if first is None or second is None or positives < 2 or negatives < 2:
        return Difference(values[0], values[1])
    variance = (first[0] - second[0]).var(ddof=1) / positives + (first[1] - second[1]).var(ddof=1) / negatives
    return Difference(values[0], values[1], math.sqrt(float(variance)))


def _components(
    positive: NDArray[np.bool_], score: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each positive the share of negatives that it beats, of each negative that of positives above it.

    Ties count half. Both have the AUC as their mean.
    """
    above, below = score[positive], score[~positive]
    together = _midranks(np.concatenate((above, below)))
    of_positives = (together[: above.size] - _midranks(above)) / below.size
    of_negatives = 1.0 - (together[above.size :] - _midranks(below)) / above.size
    return of_positives, of_negatives


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1 on; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return ranks


def _entropies(
    labels: NDArray[np.float64], ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> Difference:
    rate = float(labels.mean()) if labels.size else 0.0
    if not 0.0 < rate < 1.0:
        return Difference(None, None)
    base = -(rate * math.log(rate) + (1.0 - rate) * math.log1p(-rate))
    losses = [log_losses(labels, scores) / base for scores in (ours, theirs)]
    values = [finite(float(loss.mean())) for loss in losses]
    if values[0] is None or values[1] is None or labels.size < 2:
        return Difference(values[0], values[1])
    spread = float((losses[0] - losses[1]).std(ddof=1))
    return Difference(values[0], values[1], spread / math.sqrt(labels.size), labels.size - 1)
