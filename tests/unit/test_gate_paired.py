"""The paired tests of the gate against slow definitions, resampling, and what they promise."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_rel

from persia_core.training.metrics import normalised_entropy, summary
from persia_core.validation.paired import Comparison, Difference, compare, compare_summaries, delong

Array = NDArray[np.float64]


def two_models(
    rows: int, seed: int, *, shared: float = 0.8, ties: bool = False
) -> tuple[Array, Array, Array]:
    """Labels and the probabilities of two models that see the same signal through different noise."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.3).astype(np.float64)
    signal = labels + rng.normal(scale=1.2, size=rows)
    scores = [1 / (1 + np.exp(-(signal * shared + rng.normal(scale=0.5, size=rows) - 1))) for _ in range(2)]
    if ties:
        scores = [np.round(score, 1) for score in scores]
    return labels, scores[0], scores[1]


def kernel(above: Array, below: Array) -> Array:
    """[positives, negatives]: 1 where the positive is above, a half where they tie."""
    return (above[:, None] > below[None, :]) + 0.5 * (above[:, None] == below[None, :])


def slow_delong(labels: Array, ours: Array, theirs: Array) -> Difference:
    """DeLong et al. (1988), equations as printed: covariances of the structural components, in O(n^2)."""
    of_positives, of_negatives, values = [], [], []
    for score in (ours, theirs):
        psi = kernel(score[labels == 1], score[labels == 0])
        values.append(float(psi.mean()))
        of_positives.append(psi.mean(axis=1))
        of_negatives.append(psi.mean(axis=0))
    m, n = len(of_positives[0]), len(of_negatives[0])
    covariance = np.cov(of_positives) / m + np.cov(of_negatives) / n
    contrast = np.array([1.0, -1.0])
    return Difference(values[0], values[1], math.sqrt(max(0.0, contrast @ covariance @ contrast)))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rows", [12, 60, 501])
def test_delong_equals_its_definition(rows: int, ties: bool) -> None:
    for seed in range(8):
        labels, ours, theirs = two_models(rows, seed, ties=ties)
        if not 2 <= labels.sum() <= rows - 2:
            continue
        fast, slow = delong(labels, ours, theirs), slow_delong(labels, ours, theirs)
        assert fast.ours == pytest.approx(slow.ours, abs=1e-12)
        assert fast.theirs == pytest.approx(slow.theirs, abs=1e-12)
        assert fast.standard_error == pytest.approx(slow.standard_error, abs=1e-12)
        assert fast.ours == pytest.approx(summary(labels, ours)["auc"], abs=1e-12)


def test_only_ratios_of_weights_matter_and_rows_of_weight_0_do_not() -> None:
    labels, ours, theirs = two_models(300, 11)
    weights = np.random.default_rng(2).choice([0.0, 1.0, 3.0], 300)
    found, scaled = compare(labels, ours, theirs, weights), compare(labels, ours, theirs, weights * 2.0**20)
    kept = weights > 0
    without = compare(labels[kept], ours[kept], theirs[kept], weights[kept])
    for one in (scaled, without):
        for metric in ("auc", "normalised_entropy"):
            expected, difference = getattr(found, metric), getattr(one, metric)
            assert difference.ours == pytest.approx(expected.ours, rel=1e-12)
            assert difference.standard_error == pytest.approx(expected.standard_error, rel=1e-12)
            assert difference.degrees == expected.degrees


@pytest.mark.parametrize("weighted", [False, True])
def test_the_standard_errors_are_those_that_resampling_finds(weighted: bool) -> None:
    labels, ours, theirs = two_models(400, 3)
    weights = np.random.default_rng(5).choice([0.0, 0.5, 1.0, 4.0], 400) if weighted else np.ones(400)
    found = compare(labels, ours, theirs, weights)
    rng = np.random.default_rng(0)
    differences: list[list[float]] = []
    for _ in range(600):
        rows = rng.integers(len(labels), size=len(labels))
        of = [summary(labels[rows], score[rows], weights[rows]) for score in (ours, theirs)]
        differences.append([float(of[0][key]) - float(of[1][key]) for key in ("auc", "log_loss")])  # type: ignore[arg-type]
    spread = np.std(differences, axis=0, ddof=1)
    whole = summary(labels, ours, weights)
    entropy = float(whole["log_loss"]) / float(whole["normalised_entropy"])  # type: ignore[arg-type]
    assert found.auc.ours == pytest.approx(whole["auc"])
    assert found.normalised_entropy.ours == pytest.approx(whole["normalised_entropy"])
    assert found.auc.standard_error == pytest.approx(spread[0], rel=0.12)
    assert found.normalised_entropy.standard_error == pytest.approx(spread[1] / entropy, rel=0.12)


def test_normalised_entropy_is_tested_as_the_paired_t_test_does() -> None:
    labels, ours, theirs = two_models(80, 5)
    found = compare(labels, ours, theirs).normalised_entropy
    assert found.ours == pytest.approx(normalised_entropy(labels, ours), rel=1e-12)
    assert found.theirs == pytest.approx(normalised_entropy(labels, theirs), rel=1e-12)
    losses = [-(labels * np.log(p) + (1 - labels) * np.log(1 - p)) for p in (ours, theirs)]
    rate = labels.mean()
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    interval = ttest_rel(losses[0], losses[1]).confidence_interval(confidence_level=0.90)  # two-sided
    half = (interval.high - interval.low) / 2 / entropy
    assert found.margin_of_error(0.95) == pytest.approx(half, rel=1e-9)


def test_the_margin_of_error_of_auc_is_that_of_the_normal_distribution() -> None:
    found = Difference(0.7, 0.7, 0.01)
    assert found.margin_of_error(0.975) == pytest.approx(0.0195996, abs=1e-6)
    assert found.margin_of_error(0.5) == pytest.approx(0.0, abs=1e-12)
    assert Difference(0.7, 0.7).margin_of_error(0.95) is None


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of two equal models, one is found to be worse in about one of twenty tries."""
    above = 0
    for seed in range(400):
        labels, ours, theirs = two_models(200, 1000 + seed)
        found = delong(labels, ours, theirs)
        assert found.ours is not None
        assert found.theirs is not None
        error = found.margin_of_error(0.95)
        assert error is not None
        above += found.theirs - found.ours > error
    expected, deviation = 400 * 0.05, math.sqrt(400 * 0.05 * 0.95)
    assert abs(above - expected) < NormalDist().inv_cdf(0.9999) * deviation


def test_a_model_does_not_differ_from_itself() -> None:
    labels, ours, _ = two_models(50, 1)
    found = compare(labels, ours, ours)
    assert found.auc.standard_error == 0.0
    assert found.normalised_entropy.standard_error == 0.0
    assert found.auc.ours == found.auc.theirs


@pytest.mark.parametrize(
    ("labels", "auc", "error"),
    [
        ([], False, False),
        ([1.0, 1.0, 1.0], False, False),
        ([0.0, 0.0], False, False),
        ([0.0, 1.0], True, False),
        ([0.0, 0.0, 1.0], True, False),
        ([0.0, 0.0, 1.0, 1.0], True, True),
    ],
)
def test_where_a_figure_is_undefined_it_is_missing(labels: list[float], auc: bool, error: bool) -> None:
    scores = np.linspace(0.2, 0.8, len(labels))
    found = compare(labels, scores, scores[::-1])
    assert (found.auc.ours is not None, found.auc.standard_error is not None) == (auc, error)
    assert (found.normalised_entropy.ours is not None) == (0 < sum(labels) < len(labels))
    assert found.rows == len(labels)


def test_a_model_with_a_nan_has_no_figures_and_the_other_keeps_its_own() -> None:
    labels, ours, theirs = two_models(40, 2)
    ours[7] = math.nan
    found = compare(labels, ours, theirs)
    for difference, key in ((found.auc, "auc"), (found.normalised_entropy, "normalised_entropy")):
        assert difference.ours is None
        assert difference.standard_error is None
        assert difference.theirs == pytest.approx(summary(labels, theirs)[key])


def test_summaries_are_compared_without_an_error() -> None:
    found = compare_summaries(
        {"rows": 7, "auc": 0.7, "normalised_entropy": 0.9}, {"auc": math.nan, "normalised_entropy": 0.8}
    )
    assert found == Comparison(7, Difference(0.7, None), Difference(0.9, 0.8))
