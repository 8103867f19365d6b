"""Plots as numbers: what an SVG of a report needs, worked out from series of points."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 480, 190
_MOST_BARS = 32
_MOST_LABELS = 5


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where (SVG units) and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A point that is drawn as a dot, with what it says when pointed at."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Line:
    """A curve: `points` as SVG takes them, dots on it, and its name."""

    name: str
    points: str
    marks: list[Mark]


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, from the bottom of the plot."""

    x: float
    width: float
    height: float
    label: str
    value: str


@dataclass(frozen=True)
class Chart:
    """A plot of WIDTH x HEIGHT SVG units, origin at the top left."""

    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    diagonal: str | None = None  # points of the line of equal values
    x_name: str = ""
    y_name: str = ""


Points = Sequence[tuple[float, float]]


def curve(points: Points, x_name: str, y_name: str) -> Chart | None:
    """One line, say of a loss; points that are not finite are left out. None if there are not two."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(finite) < 2:
        return None
    across, up = _Axis.of([x for x, _ in finite], WIDTH), _Axis.of([y for _, y in finite], HEIGHT)
    return Chart(
        across.ticks(), up.ticks(flip=True), [_line("", finite, across, up)], x_name=x_name, y_name=y_name
    )


def over_days(values: Sequence[tuple[str, float | None]], y_name: str) -> Chart | None:
    """A value for each day, in order, with a dot for each; None if there is no value."""
    known = [(number, value) for number, (_, value) in enumerate(values) if value is not None]
    if not known:
        return None
    last = max(len(values) - 1, 1)
    across, up = _Axis(0.0, float(last), 0.0, WIDTH), _Axis.of([value for _, value in known], HEIGHT)
    marks = [
        Mark(across.place(number), HEIGHT - up.place(value), f"{values[number][0]}: {value:.4f}")
        for number, value in known
    ]
    step = math.ceil(len(values) / _MOST_LABELS)
    ticks = [Tick(across.place(n), values[n][0]) for n in range(0, len(values), step)]
    points = " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in marks)
    return Chart(ticks, up.ticks(flip=True), [Line("", points, marks)], y_name=y_name)


def calibration(series: Mapping[str, Sequence[tuple[float, float, int]]]) -> Chart | None:
    """Observed against predicted, of each named series of (predicted, observed, rows); None without any."""
    values = [value for points in series.values() for point in points for value in point[:2]]
    if not values:
        return None
    top = max(values) or 1.0
    across, up = _Axis.of([0.0, top], WIDTH), _Axis.of([0.0, top], HEIGHT)
    lines = []
    for name, points in series.items():
        marks = [
            Mark(across.place(x), HEIGHT - up.place(y), f"predicted {x:.4f}, observed {y:.4f}, {rows:,} rows")
            for x, y, rows in points
        ]
        lines.append(Line(name, " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in marks), marks))
    return Chart(
        across.ticks(),
        up.ticks(flip=True),
        [line for line in lines if line.marks],
        diagonal=f"0,{HEIGHT} {WIDTH},0",
        x_name="predicted",
        y_name="observed",
    )


def histogram(counts: dict[int, int], x_name: str) -> Chart | None:
    """A bar for each value, or for each range of values where there are many; None if there is none."""
    if not counts:
        return None
    low, high = min(counts), max(counts)
    span = math.ceil((high - low + 1) / _MOST_BARS)
    grouped: dict[int, int] = {}
    for value, count in counts.items():
        start = low + (value - low) // span * span
        grouped[start] = grouped.get(start, 0) + count
    starts = range(low, high + 1, span)
    up = _Axis.of([0.0, float(max(grouped.values()) or 1)], HEIGHT - 16)
    step = WIDTH / len(starts)
    bars = [
        Bar(
            round(number * step + step * 0.12, 1),
            round(step * 0.76, 1),
            round(up.place(grouped.get(start, 0)), 1),
            str(start) if span == 1 else f"{start}–{start + span - 1}",
            f"{grouped.get(start, 0):,}",
        )
        for number, start in enumerate(starts)
    ]
    return Chart([], up.ticks(flip=True), bars=bars, x_name=x_name, y_name="batches")


@dataclass(frozen=True)
class _Axis:
    """Values from `low` to `high` on `length` units; ticks every `step`."""

    low: float
    high: float
    step: float
    length: int

    @staticmethod
    def of(values: Sequence[float], length: int) -> "_Axis":
        """An axis with round ends and three to seven ticks around `values`."""
        low, high = min(values), max(values)
        if high - low < 1e-9 * max(abs(low), abs(high), 1e-6):
            margin = abs(high) * 0.05 or 1.0
            low, high = low - margin, high + margin
        raw = (high - low) / 4
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * next(factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
        return _Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step, length)

    def place(self, value: float) -> float:
        return round((value - self.low) / (self.high - self.low) * self.length, 1)

    def ticks(self, *, flip: bool = False) -> list[Tick]:
        count = round((self.high - self.low) / self.step)
        ticks = []
        for number in range(count + 1):
            value = self.low + number * self.step
            at = self.place(value)
            ticks.append(Tick(HEIGHT - at if flip else at, _label(value, self.step)))
        return ticks


def _label(value: float, step: float) -> str:
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += 0 if math.isclose(round(step, digits), step, rel_tol=1e-6) else 1
    return f"{value + 0.0:,.{digits}f}"


def _line(name: str, points: Points, across: _Axis, up: _Axis) -> Line:
    placed = " ".join(f"{across.place(x):.1f},{HEIGHT - up.place(y):.1f}" for x, y in points)
    return Line(name, placed, [])
