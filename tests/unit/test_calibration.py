"""Calibration in bins, against a loop over rows."""

import numpy as np
import pytest

from persia_core.training.calibration import calibration_bins


@pytest.mark.parametrize("rows", [1, 5, 12, 13, 500])
def test_every_row_is_in_one_bin_with_those_of_about_its_probability(rows: int) -> None:
    rng = np.random.default_rng(rows)
    probabilities = rng.permutation(np.linspace(0.01, 0.9, rows))
    labels = (rng.random(rows) < probabilities).astype(np.float32)
    bins = calibration_bins(labels, probabilities)
    order = sorted(range(rows), key=lambda row: probabilities[row])
    assert [found["rows"] for found in bins] == [
        (number + 1) * rows // 12 - number * rows // 12
        for number in range(12)
        if (number + 1) * rows // 12 > number * rows // 12
    ]
    start = 0
    for found in bins:
        inside = order[start : start + int(found["rows"])]
        assert found["predicted"] == pytest.approx(sum(probabilities[row] for row in inside) / len(inside))
        assert found["observed"] == pytest.approx(sum(labels[row] for row in inside) / len(inside))
        start += len(inside)
    assert start == rows


def test_equal_probabilities_stay_together() -> None:
    probabilities = [0.1] * 70 + [0.5] * 20 + [0.9] * 10
    labels = [0.0] * 70 + [1.0] * 10 + [0.0] * 10 + [1.0] * 10
    found = [
        (b["rows"], round(b["predicted"], 6), b["observed"]) for b in calibration_bins(labels, probabilities)
    ]
    assert found == [(70, 0.1, 0.0), (20, 0.5, 0.5), (10, 0.9, 1.0)]
    assert calibration_bins([], []) == []
    assert calibration_bins([1.0], [float("nan")]) == []
