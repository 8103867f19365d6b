"""Metrics of binary predictions, exact, in float64. No torch here: validation uses them too."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _pair(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    label = np.asarray(labels, dtype=np.float64).ravel()
    score = np.asarray(scores, dtype=np.float64).ravel()
    if label.shape != score.shape:
        raise ValueError(f"{label.size} labels for {score.size} scores")
    if label.size and not np.isin(label, (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    return label, score


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve: P(score of a positive > score of a negative), ties count half.

    Shapes [n]. By ranks (Mann-Whitney U). None when undefined: no rows of one class, or a NaN score.
    """
    label, score = _pair(labels, scores)
    positives = int(label.sum())
    negatives = label.size - positives
    if positives == 0 or negatives == 0 or np.isnan(score).any():
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2.0)[inverse]
    return float((ranks[label == 1.0].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Mean negative log-likelihood in nats, probabilities clipped to [1e-7, 1 - 1e-7]. None if undefined."""
    label, probability = _pair(labels, probabilities)
    if label.size == 0 or np.isnan(probability).any():
        return None
    clipped = np.clip(probability, 1e-7, 1.0 - 1e-7)
    return float(-np.mean(label * np.log(clipped) + (1.0 - label) * np.log1p(-clipped)))


def normalised_entropy(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Log-loss over that of always predicting the rate of positives (He et al. 2014). Below 1 is of use.

    None if undefined, as it is where all rows are of one class.
    """
    label, _ = _pair(labels, probabilities)
    loss = log_loss(labels, probabilities)
    rate = float(label.mean()) if label.size else 0.0
    if loss is None or not 0.0 < rate < 1.0:
        return None
    return loss / -(rate * math.log(rate) + (1.0 - rate) * math.log1p(-rate))


def calibration(labels: ArrayLike, probabilities: ArrayLike) -> float | None:
    """Sum of probabilities over number of positives; 1 is perfect. None if there are no positives."""
    label, probability = _pair(labels, probabilities)
    positives = label.sum()
    if positives == 0 or np.isnan(probability).any():
        return None
    return float(probability.sum() / positives)


def summary(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float | int | None]:
    """rows, label_rate, auc, log_loss, normalised_entropy and calibration of one set of predictions."""
    label, probability = _pair(labels, probabilities)
    return {
        "rows": int(label.size),
        "label_rate": float(label.mean()) if label.size else None,
        "auc": auc(label, probability),
        "log_loss": log_loss(label, probability),
        "normalised_entropy": normalised_entropy(label, probability),
        "calibration": calibration(label, probability),
    }
