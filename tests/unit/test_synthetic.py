"""The synthetic click log against what it promises: rows, bytes, truth, drift."""

import csv
import gzip
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from persia_core.config import load_config
from persia_core.data.days import raw_day
from persia_core.data.synthetic import CHUNK_ROWS, COLUMNS, GridAuc, SyntheticLog, Vocabularies, synthesize
from persia_core.training.metrics import auc
from tests.support.hashed import hashed_table

CONFIG = Path(__file__).parents[2] / "configs" / "synthetic_dlrm.yaml"


def read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_day_has_exactly_the_rows_asked_for(tmp_path: Path) -> None:
    rows = CHUNK_ROWS + 7
    days = synthesize(tmp_path, rows, 2, seed=1, first_day="2026-02-28", first_day_rows=5)
    assert [(day.ds, day.rows) for day in days] == [("2026-02-28", 5), ("2026-03-01", rows)]
    for day in days:
        found = read(day.path)
        assert day.path.parent.name == f"ds={day.ds}"
        assert len(found) == day.rows
        assert sum(row["label"] == "1" for row in found) == day.positives
        assert tuple(found[0]) == COLUMNS


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_days(tmp_path: Path) -> None:
    first = synthesize(tmp_path / "a", 500, 3, seed=5)
    again = synthesize(tmp_path / "b", 500, 2, seed=5)
    other = synthesize(tmp_path / "c", 500, 2, seed=6)
    for one, two, three in zip(first, again, other, strict=False):
        assert one.path.read_bytes() == two.path.read_bytes()
        assert one.path.read_bytes() != three.path.read_bytes()
        assert one.path.read_bytes()[3:8] == bytes(5), "a name or a time is in the gzip header"
    assert first[0].path.read_bytes() != first[1].path.read_bytes()


def test_the_best_auc_is_that_of_the_true_probabilities_over_all_pairs(tmp_path: Path) -> None:
    rows = 1500
    days = synthesize(tmp_path, rows, 2, seed=3)
    truth = SyntheticLog(3)
    for number, day in enumerate(days):
        labels = np.array([row["label"] == "1" for row in read(day.path)])
        start = int(datetime.fromisoformat(day.ds).replace(tzinfo=UTC).timestamp())
        probability = np.concatenate([c.probability for c in truth.chunks(number, rows, start)])
        difference = probability[labels][:, None] - probability[~labels][None, :]
        brute = ((difference > 0) + 0.5 * (difference == 0)).mean()
        assert day.best_auc == pytest.approx(brute, abs=1e-12)
        assert day.best_auc == pytest.approx(auc(labels, probability), abs=1e-12)
        assert 0.7 < brute < 0.95


def test_ties_count_half() -> None:
    rng = np.random.default_rng(0)
    probability = rng.integers(1, 8, 400) / 8
    labels = (rng.random(400) < probability).astype(np.int8)
    counted = GridAuc()
    for part in np.array_split(np.arange(400), 3):
        counted.add(labels[part], probability[part])
    difference = probability[labels == 1][:, None] - probability[labels == 0][None, :]
    assert (difference == 0).mean() > 0.05
    brute = ((difference > 0) + 0.5 * (difference == 0)).mean()
    assert counted.auc() == pytest.approx(brute, abs=1e-12)
    assert counted.positives == labels.sum()


def test_no_chunk_repeats_another() -> None:
    first, second = (chunk.table for chunk in SyntheticLog(1).chunks(0, 2 * CHUNK_ROWS, 0))
    other_day, _ = (chunk.table for chunk in SyntheticLog(1).chunks(1, 2 * CHUNK_ROWS, 0))
    for one, two in ((first, second), (first, other_day)):
        same = np.mean(one["user_id"].to_numpy() == two["user_id"].to_numpy())
        assert same < 0.1


def test_labels_follow_the_true_probabilities() -> None:
    chunks = list(SyntheticLog(8).chunks(0, 100_000, 0))
    probability = np.concatenate([chunk.probability for chunk in chunks])
    labels = np.concatenate([chunk.table["label"].to_numpy() for chunk in chunks])
    for low, high in pairwise((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)):
        part = (probability >= low) & (probability < high)
        p = probability[part]
        deviation = (labels[part].sum() - p.sum()) / np.sqrt((p * (1 - p)).sum())
        assert abs(deviation) < 5, (low, high)


def test_ids_are_zipf_distributed() -> None:
    sizes = Vocabularies(items=1000)
    rows = 200_000
    chunks = SyntheticLog(2, sizes).chunks(0, rows, 0)
    items = np.concatenate([chunk.table["item_id"].to_numpy(zero_copy_only=False) for chunk in chunks])
    weights = [rank**-1.05 for rank in range(1, 1001)]
    for rank in (1, 2, 10, 100):
        expected = rows * weights[rank - 1] / sum(weights)
        found = int((items == f"i{rank - 1}g0").sum())
        assert abs(found - expected) < 5 * expected**0.5, rank


def test_a_partition_is_in_order_of_time_and_within_its_day(tmp_path: Path) -> None:
    for day in synthesize(tmp_path, 3000, 2, seed=1):
        times = [int(row["timestamp"]) for row in read(day.path)]
        assert times == sorted(times)
        assert {datetime.fromtimestamp(time, UTC).date().isoformat() for time in times} == {day.ds}
        assert {datetime.fromtimestamp(time, UTC).hour for time in times} == set(range(24))


def test_new_items_appear_and_old_ones_change_their_appeal(tmp_path: Path) -> None:
    sizes = Vocabularies(items=20, users=50, replaced_items_share=0.2)
    days = synthesize(tmp_path, 20_000, 3, seed=4, vocabularies=sizes)
    rate_of_day = []
    for day in days:
        rows = read(day.path)
        clicks: dict[str, list[int]] = {}
        for row in rows:
            clicks.setdefault(row["item_id"], []).append(int(row["label"]))
        rate_of_day.append({item: np.mean(seen) for item, seen in clicks.items() if len(seen) > 300})
    first, last = rate_of_day[0], rate_of_day[-1]
    assert set(last) - set(first), "no new item"
    assert set(first) - set(last), "no item went"
    # 300 rows or more: the standard error of a rate is below 0.03.
    assert max(abs(first[item] - last[item]) for item in set(first) & set(last)) > 0.06


def test_missing_values_and_empty_bags_are_there_and_the_configuration_takes_them(tmp_path: Path) -> None:
    (day,) = synthesize(tmp_path, 2000, 1, seed=9)
    rows = read(day.path)
    assert any(row["country"] == "" for row in rows) and any(row["price"] == "" for row in rows)
    assert any(row["tags"] == "" for row in rows) and any(" " in row["tags"] for row in rows)
    config = load_config(CONFIG)
    table = hashed_table(config, {name: [row[name] for row in rows] for name in COLUMNS})
    assert table.num_rows == 2000
    dense = np.stack([table[feature.name].to_numpy() for feature in config.dense_features])
    assert np.isfinite(dense).all() and (abs(dense.mean(axis=1)) < 0.2).all()
    assert (abs(dense.std(axis=1) - 1) < 0.2).all()


def test_no_days_and_no_rows(tmp_path: Path) -> None:
    assert synthesize(tmp_path, 10, 0, seed=1) == []
    (day,) = synthesize(tmp_path, 0, 1, seed=1)
    assert (day.rows, day.best_auc, day.label_rate, read(day.path)) == (0, None, None, [])
    with pytest.raises(ValueError, match="must not be negative"):
        synthesize(tmp_path, -1, 1, seed=1)
    with pytest.raises(ValueError, match="no date"):
        synthesize(tmp_path, 1, 1, seed=1, first_day="yesterday")


def test_a_day_that_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), raw_day(tmp_path, "2026-01-01", "clicks") as (path, packed):
        packed.write(b"label\n")
        raise RuntimeError("stop")
    assert path.parent.is_dir() and list(path.parent.iterdir()) == []
