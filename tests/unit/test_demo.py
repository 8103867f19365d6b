"""The demo's yardsticks: the item-rate baseline, the table, and when the result is not good enough."""

import gzip
import random
from dataclasses import replace
from pathlib import Path

import pytest

from persia_core.demo.baseline import item_rate_auc
from persia_core.demo.data import clicks
from persia_core.demo.table import COLUMNS, Day, render, shortcomings

DAY = Day(
    ds="1998-04-02",
    rows_in=3922,
    rows_rejected=10,
    rows_trained=3900,
    rows_skipped=12,
    auc=0.75,
    log_loss=0.6,
    item_rate_auc=0.7,
    stopped_auc=0.74,
    staleness_max=4,
    table_rows=2900,
    version="1998-04-02-0123456789ab",
    champion="1998-04-02-0123456789ab",
)


def _auc_by_pairs(rows: list[tuple[str, int]], score: dict[str, float]) -> float:
    """P(a positive scores above a negative), over all pairs, ties count half."""
    positives = [score[item] for item, label in rows if label]
    negatives = [score[item] for item, label in rows if not label]
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def test_the_baseline_equals_a_count_by_hand() -> None:
    generator = random.Random(7)
    items = [f"i{n}" for n in range(12)]
    earlier = [(generator.choice(items[:9]), int(generator.random() < 0.4)) for _ in range(200)]
    day = [(generator.choice(items), int(generator.random() < 0.5)) for _ in range(80)]
    overall = sum(label for _, label in earlier) / len(earlier)
    score = {}
    for item in items:
        labels = [label for name, label in earlier if name == item]
        score[item] = (sum(labels) + 10 * overall) / (len(labels) + 10)
    assert item_rate_auc(earlier, day) == pytest.approx(_auc_by_pairs(day, score), abs=1e-12)


def test_the_baseline_knows_nothing_without_history() -> None:
    assert item_rate_auc([], [("a", 1), ("b", 0)]) == 0.5


def test_the_baseline_is_undefined_for_one_class() -> None:
    assert item_rate_auc([("a", 1)], [("a", 1), ("b", 1)]) is None


def test_clicks_are_read_from_a_raw_partition(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(b'user_id,item_id,label\n1,"a,b",1\n2,c,0\n'))
    assert clicks(path, "item_id") == [("a,b", 1), ("c", 0)]


def test_a_good_result_has_no_shortcomings() -> None:
    assert shortcomings([DAY, replace(DAY, ds="1998-04-09", stopped_auc=0.75)]) == []


@pytest.mark.parametrize(
    ("last", "named"),
    [
        (replace(DAY, auc=0.70), "does not beat"),
        (replace(DAY, auc=0.739), "worse than the one that stopped"),
        (replace(DAY, rows_trained=3899), "3921 are accounted for"),
        (replace(DAY, auc=None), "not defined"),
        (replace(DAY, item_rate_auc=None), "not defined"),
        (replace(DAY, stopped_auc=None), "not defined"),
    ],
)
def test_a_bad_last_day_is_named(last: Day, named: str) -> None:
    found = shortcomings([replace(DAY, ds="1998-03-30"), last])
    assert any(named in line and "1998-04-02" in line for line in found)


def test_only_the_last_day_is_compared_with_the_model_that_stopped() -> None:
    assert shortcomings([replace(DAY, stopped_auc=0.8), replace(DAY, ds="1998-04-09")]) == []


def test_every_day_must_beat_the_baseline() -> None:
    assert len(shortcomings([replace(DAY, item_rate_auc=0.9), replace(DAY, ds="1998-04-09")])) == 1


def test_the_table_shows_each_day_under_every_heading() -> None:
    text = render([replace(DAY, auc=None), DAY])
    header, _, first, second = text.splitlines()[:4]
    assert all(column in header for column in COLUMNS)
    assert "3,922" in first and "0.7500" not in first
    assert "0.7500" in second and "this version" in second
    assert len({len(line) for line in (header, first, second)}) == 1
