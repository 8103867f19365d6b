"""Metrics of binary predictions, exact, in float64. No torch here: validation uses them too.

Samples may have weights, finite and at least 0: a sample of weight 2 counts as two samples would. Without
weights all are 1.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def checked(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array]:
    """All as float64 [n], weights of 1 for None.

    Raises ValueError for other lengths, a label that is not 0 or 1, or a weight that is no weight.
    """
    label = np.asarray(labels, dtype=np.float64).ravel()
    score = np.asarray(scores, dtype=np.float64).ravel()
    weight = np.ones(label.size) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if label.shape != score.shape:
        raise ValueError(f"{label.size} labels for {score.size} scores")
    if label.shape != weight.shape:
        raise ValueError(f"{label.size} labels for {weight.size} weights")
    if label.size and not np.isin(label, (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    if not (np.isfinite(weight) & (weight >= 0.0)).all():
        raise ValueError("weights must be finite and at least 0")
    return label, score, weight


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Area under the ROC curve: P(score of a positive > score of a negative), ties count half.

    Shapes [n]. A pair has the product of its weights. None when undefined: one class has no weight, or a
    score is NaN.
    """
    label, score, weight = checked(labels, scores, weights)
    if np.isnan(score).any():
        return None
    _, place = np.unique(score, return_inverse=True)
    positive = np.bincount(place, weight * label)  # weight at each distinct score, ascending
    negative = np.bincount(place, weight * (1.0 - label))
    pairs = positive.sum() * negative.sum()
    if pairs == 0.0:
        return None
    below = np.concatenate([[0.0], np.cumsum(negative)[:-1]])
    return float((positive * (below + negative / 2.0)).sum() / pairs)


def log_loss(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Mean negative log-likelihood in nats, probabilities clipped to [1e-7, 1 - 1e-7]. None if undefined."""
    label, probability, weight = checked(labels, probabilities, weights)
    if weight.sum() == 0.0 or np.isnan(probability).any():
        return None
    return float(np.average(log_losses(label, probability), weights=weight))


def log_losses(labels: Array, probabilities: Array) -> Array:
    """Each row's negative log-likelihood in nats, probabilities clipped to [1e-7, 1 - 1e-7]; shapes [n]."""
    clipped = np.clip(probabilities, 1e-7, 1.0 - 1e-7)
    return -(labels * np.log(clipped) + (1.0 - labels) * np.log1p(-clipped))


def normalised_entropy(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> float | None:
    """Log-loss over that of always predicting the rate of positives (He et al. 2014). Below 1 is of use.

    None if undefined, as it is where all rows are of one class.
    """
    label, _, weight = checked(labels, probabilities, weights)
    loss = log_loss(labels, probabilities, weights)
    if loss is None:
        return None
    rate = float(np.average(label, weights=weight))
    if not 0.0 < rate < 1.0:
        return None
    return loss / -(rate * math.log(rate) + (1.0 - rate) * math.log1p(-rate))


def calibration(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> float | None:
    """Sum of probabilities over number of positives; 1 is perfect. None if there are no positives."""
    label, probability, weight = checked(labels, probabilities, weights)
    positives = (weight * label).sum()
    if positives == 0.0 or np.isnan(probability).any():
        return None
    return float((weight * probability).sum() / positives)


def summary(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> dict[str, float | int | None]:
    """rows, label_rate, auc, log_loss, normalised_entropy and calibration of one set of predictions.

    With weights all but the first are weighted, and `weight` is their sum.
    """
    label, probability, weight = checked(labels, probabilities, weights)
    total = float(weight.sum())
    return {
        "rows": int(label.size),
        **({} if weights is None else {"weight": total}),
        "label_rate": float(np.average(label, weights=weight)) if total else None,
        "auc": auc(label, probability, weight),
        "log_loss": log_loss(label, probability, weight),
        "normalised_entropy": normalised_entropy(label, probability, weight),
        "calibration": calibration(label, probability, weight),
    }
