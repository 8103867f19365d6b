"""Calibration in bins: what was predicted against what came true. No torch here."""

import itertools

import numpy as np
from numpy.typing import ArrayLike

BINS = 12


def calibration_bins(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = BINS,
    weights: ArrayLike | None = None,
) -> list[dict[str, float | int]]:
    """Rows in order of their probability, cut into `bins` of equal number (the last may be larger by some).

    Each bin: "rows", "predicted" (mean probability) and "observed" (share of positives). Rows with equal
    probabilities stay in one bin, so there may be fewer. Empty without rows or with a NaN. With weights mean
    and share are weighted, and a bin without weight is left out.
    """
    label = np.asarray(labels, np.float64).ravel()
    probability = np.asarray(probabilities, np.float64).ravel()
    if not label.size or np.isnan(probability).any():
        return []
    order = np.argsort(probability, kind="stable")
    weight = np.ones(label.size) if weights is None else np.asarray(weights, np.float64).ravel()
    label, probability, weight = label[order], probability[order], weight[order]
    cuts = np.searchsorted(probability, probability[np.arange(1, bins) * label.size // bins], "left")
    edges = np.unique([0, *cuts, label.size])
    return [
        {
            "rows": int(stop - start),
            "predicted": float(np.average(probability[start:stop], weights=weight[start:stop])),
            "observed": float(np.average(label[start:stop], weights=weight[start:stop])),
        }
        for start, stop in itertools.pairwise(edges)
        if weight[start:stop].any()
    ]
