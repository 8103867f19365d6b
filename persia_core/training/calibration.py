"""Calibration in bins: what was predicted against what came true. No torch here."""

import itertools

import numpy as np
from numpy.typing import ArrayLike

BINS = 12


def calibration_bins(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS
) -> list[dict[str, float | int]]:
    """Rows in order of their probability, cut into `bins` of equal number (the last may be larger by some).

    Each bin: "rows", "predicted" (mean probability) and "observed" (share of positives). Rows with equal
    probabilities stay in one bin, so there may be fewer. Empty without rows or with a NaN.
    """
    label = np.asarray(labels, np.float64).ravel()
    probability = np.asarray(probabilities, np.float64).ravel()
    if not label.size or np.isnan(probability).any():
        return []
    order = np.argsort(probability, kind="stable")
    label, probability = label[order], probability[order]
    cuts = np.searchsorted(probability, probability[np.arange(1, bins) * label.size // bins], "left")
    edges = np.unique([0, *cuts, label.size])
    return [
        {
            "rows": int(stop - start),
            "predicted": float(probability[start:stop].mean()),
            "observed": float(label[start:stop].mean()),
        }
        for start, stop in itertools.pairwise(edges)
    ]
