"""Plots: where points land, and that odd series draw nothing or something sensible."""

import math

import pytest

from persia_core.handoff.chart import HEIGHT, WIDTH, calibration, curve, histogram, over_days


def coordinates(points: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


def test_a_point_lies_where_its_ticks_say() -> None:
    chart = curve([(0, 0.30), (37, 0.62), (100, 0.45)], "step", "loss")
    assert chart is not None
    x = {float(tick.label): tick.at for tick in chart.x_ticks}
    y = {float(tick.label): tick.at for tick in chart.y_ticks}
    assert min(x) <= 0
    assert max(x) >= 100
    low, high = min(y), max(y)
    for (px, py), (step, loss) in zip(
        coordinates(chart.lines[0].points), [(0, 0.30), (37, 0.62), (100, 0.45)], strict=True
    ):
        assert px == pytest.approx((step - min(x)) / (max(x) - min(x)) * WIDTH, abs=0.11)
        assert py == pytest.approx(HEIGHT - (loss - low) / (high - low) * HEIGHT, abs=0.11)
    assert all(0 <= tick.at <= WIDTH for tick in chart.x_ticks)


@pytest.mark.parametrize("points", [[], [(0, 1.0)], [(0, 1.0), (1, math.nan), (2, math.inf)]])
def test_a_curve_needs_two_points(points: list[tuple[float, float]]) -> None:
    assert curve(points, "x", "y") is None


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-9, 1e6])
def test_a_constant_is_drawn_inside_the_plot(value: float) -> None:
    chart = curve([(0, value), (1, value)], "x", "y")
    assert chart is not None
    assert all(0 < y < HEIGHT for _, y in coordinates(chart.lines[0].points))


def test_days_without_a_value_keep_their_place() -> None:
    chart = over_days([("2026-11-01", None), ("2026-11-02", 0.7), ("2026-11-03", 0.8)], "AUC")
    assert chart is not None
    assert [mark.x for mark in chart.lines[0].marks] == [WIDTH / 2, WIDTH]
    assert over_days([("2026-11-01", None)], "AUC") is None
    many = over_days([(f"2026-11-{day:02}", 0.5 + day / 100) for day in range(1, 31)], "AUC")
    assert many is not None
    assert len(many.x_ticks) <= 5


def test_perfect_calibration_lies_on_the_diagonal() -> None:
    chart = calibration({"after": [(0.1, 0.1, 5), (0.55, 0.55, 5)], "before": []})
    assert chart is not None
    assert len(chart.lines) == 1
    (x0, y0), (x1, y1) = coordinates(chart.diagonal or "")
    for x, y in coordinates(chart.lines[0].points):
        assert y - y0 == pytest.approx((y1 - y0) / (x1 - x0) * (x - x0), abs=0.2)
    assert calibration({"before": [], "after": []}) is None


def test_a_long_histogram_is_grouped_and_loses_nothing() -> None:
    counts = {value: value % 7 for value in range(1, 1025)}
    chart = histogram(counts, "batches")
    assert chart is not None
    assert len(chart.bars) <= 32
    assert sum(int(bar.value.replace(",", "")) for bar in chart.bars) == sum(counts.values())
    assert histogram({}, "batches") is None
    assert histogram({4: 0}, "batches") is not None
