"""Metrics against definitions computed pair by pair, in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core.training.calibration import calibration_bins
from persia_core.training.metrics import auc, calibration, log_loss, normalised_entropy, summary

samples = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0])),
    min_size=1,
    max_size=40,
)


@given(samples)
def test_auc_is_the_share_of_ordered_pairs(pairs: list[tuple[int, float]]) -> None:
    positives = [score for label, score in pairs if label]
    negatives = [score for label, score in pairs if not label]
    found = auc([label for label, _ in pairs], [score for _, score in pairs])
    if not positives or not negatives:
        assert found is None
        return
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    assert found == pytest.approx(won / (len(positives) * len(negatives)), abs=1e-12)


@given(samples)
def test_log_loss_and_calibration_are_their_definitions(pairs: list[tuple[int, float]]) -> None:
    labels, scores = [label for label, _ in pairs], [score for _, score in pairs]
    clipped = [min(max(score, 1e-7), 1 - 1e-7) for score in scores]
    expected = -sum(
        math.log(p) if y else math.log(1 - p) for y, p in zip(labels, clipped, strict=True)
    ) / len(pairs)
    assert log_loss(labels, scores) == pytest.approx(expected, rel=1e-9)
    if sum(labels):
        assert calibration(labels, scores) == pytest.approx(sum(scores) / sum(labels))
    else:
        assert calibration(labels, scores) is None


@given(samples)
def test_normalised_entropy_is_the_log_loss_over_that_of_the_base_rate(
    pairs: list[tuple[int, float]],
) -> None:
    labels, scores = [label for label, _ in pairs], [score for _, score in pairs]
    rate = sum(labels) / len(labels)
    found = normalised_entropy(labels, scores)
    if rate in (0, 1):
        assert found is None
        return
    entropy = -sum(math.log(rate if y else 1 - rate) for y in labels) / len(labels)
    expected = log_loss(labels, scores)
    assert expected is not None
    assert found == pytest.approx(expected / entropy, rel=1e-9)
    assert normalised_entropy(labels, [rate] * len(labels)) == pytest.approx(1.0)


weighted = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0]),
        st.sampled_from([0, 1, 2, 5]),
    ),
    min_size=1,
    max_size=25,
)


@given(weighted)
def test_a_sample_of_weight_n_counts_as_n_samples(samples: list[tuple[int, float, int]]) -> None:
    repeated = [(label, score) for label, score, weight in samples for _ in range(weight)]
    labels, scores, weights = zip(*samples, strict=True)
    found = summary(labels, scores, weights)
    assert (found.pop("rows"), found.pop("weight")) == (len(samples), len(repeated))
    expected = summary([label for label, _ in repeated], [score for _, score in repeated])
    del expected["rows"]
    for name, value in expected.items():
        close = None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)
        assert found[name] == close, name


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.floats(0, 1), st.just(0.0) | st.floats(1e-3, 1e6)),
        min_size=2,
        max_size=30,
    )
)
def test_weighted_auc_is_the_weight_of_ordered_pairs(samples: list[tuple[int, float, float]]) -> None:
    positives = [(score, weight) for label, score, weight in samples if label]
    negatives = [(score, weight) for label, score, weight in samples if not label]
    pairs = [(v * w, (p > n) + 0.5 * (p == n)) for p, v in positives for n, w in negatives]
    total = math.fsum(weight for weight, _ in pairs)
    labels, scores, weights = zip(*samples, strict=True)
    found = auc(labels, scores, weights)
    if found is None:
        assert total == 0.0
    else:
        assert found == pytest.approx(math.fsum(w * won for w, won in pairs) / total, abs=1e-9)


def test_bins_of_calibration_are_weighted_and_hold_as_many_rows_as_without() -> None:
    rng = np.random.default_rng(6)
    scores, weights = rng.permutation(120) / 120, rng.integers(0, 4, 120)
    labels = (rng.random(120) < scores).astype(int)
    weights[np.argsort(scores)[20:30]] = 0  # the third bin of twelve
    found = calibration_bins(labels, scores, bins=12, weights=weights)
    assert len(found) == 11 and {each["rows"] for each in found} == {10}
    order = np.argsort(scores)
    bins = [order[start : start + 10] for start in range(0, 120, 10) if start != 20]
    for each, rows in zip(found, bins, strict=True):
        repeated = [row for row in rows for _ in range(weights[row])]
        assert each["predicted"] == pytest.approx(sum(scores[row] for row in repeated) / len(repeated))
        assert each["observed"] == pytest.approx(sum(labels[row] for row in repeated) / len(repeated))


def test_weights_that_are_none_are_refused() -> None:
    for wrong in ([1.0, -1.0], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(ValueError, match="finite and at least 0"):
            log_loss([0, 1], [0.5, 0.5], wrong)
    with pytest.raises(ValueError, match="2 labels for 1 weights"):
        summary([0, 1], [0.5, 0.5], [1.0])
    assert summary([0, 1], [0.5, 0.5], [0.0, 0.0])["auc"] is None


def test_undefined_metrics_are_none_not_numbers() -> None:
    assert summary([], []) == {
        "rows": 0,
        "label_rate": None,
        "auc": None,
        "log_loss": None,
        "normalised_entropy": None,
        "calibration": None,
    }
    assert auc([0, 1], [0.5, float("nan")]) is None
    assert log_loss([0, 1], [0.5, float("nan")]) is None


def test_wrong_labels_and_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        auc([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="2 labels for 3"):
        auc([0, 1], np.zeros(3))
