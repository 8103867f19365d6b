"""Slices against groups made row by row from the raw values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persia_core.config import ModelConfig
from persia_core.data.partition import open_partition
from persia_core.errors import ConfigError
from persia_core.handoff.local_store import LocalStore
from persia_core.training.metrics import summary
from persia_core.training.report import read_labels, read_weights
from persia_core.training.slices import Slices, slices_of
from tests.support.hashed import hashed_table, make_id, write_hashed_partition
from tests.support.small_config import small_config, small_rows

DS = "2026-01-01"
ROWS = 400


def configured(**training: Any) -> ModelConfig:
    return small_config(training={"model": "persia_core.models.dlrm:DLRM"} | training)


def sliced(tmp_path: Path, config: ModelConfig) -> tuple[Slices, dict[str, list[dict[str, Any]]]]:
    """What is found, and what it should be."""
    rows = small_rows(ROWS, seed=4)
    store = LocalStore(tmp_path / "store")
    write_hashed_partition(config, store, DS, rows, rows_per_part=150)
    partition = open_partition(store, config, DS, tmp_path / "work")
    labels = read_labels(partition)
    scores = np.random.default_rng(0).random(ROWS).astype(np.float32)
    found = slices_of(config, partition, labels, scores)

    table = hashed_table(config, rows)
    expected: dict[str, list[dict[str, Any]]] = {}
    for name in config.training.metric_slices:
        groups: dict[int | None, list[int]] = {}
        for row, id_ in enumerate(table[name].to_pylist()):
            groups.setdefault(None if id_ is None else id_ % (1 << 64), []).append(row)
        ordered = sorted(groups.items(), key=lambda each: (-len(each[1]), each[0] or 0))
        expected[name] = [
            {"value": id_, **summary(labels[members], scores[members])} for id_, members in ordered
        ][: config.training.metric_slice_values]
    return found, expected


def test_the_most_frequent_values_have_the_metrics_of_their_rows(tmp_path: Path) -> None:
    config = configured(metric_slices=["hour", "user", "last"], metric_slice_values=5)
    found, expected = sliced(tmp_path, config)
    assert found.keys() == expected.keys()
    for name, slices in found.items():
        assert [each["rows"] for each in slices] == [each["rows"] for each in expected[name]]
        assert len(slices) == 5
    hours = {make_id(config, "hour", str(hour)): str(hour) for hour in range(24)}
    users = {make_id(config, "user", "\0"): "missing"}
    names = {"hour": hours, "user": users, "last": {None: "none"}}
    for name, slices in found.items():
        by_name = {each["value"]: each for each in slices}
        for each in expected[name]:
            value = names[name].get(each["value"]) or f"{each['value']:016x}"
            if value in by_name:  # of values with equally many rows, either may be the last one
                assert by_name[value] == each | {"value": value}
        assert len(by_name) == 5
    assert "missing" in {each["value"] for each in found["user"]}
    assert "none" in {each["value"] for each in found["last"]}


def test_all_values_together_are_all_rows(tmp_path: Path) -> None:
    found, expected = sliced(tmp_path, configured(metric_slices=["last", "hour"], metric_slice_values=1000))
    for name, slices in found.items():
        assert sum(each["rows"] for each in slices) == ROWS
        assert len(slices) == len(expected[name])


@pytest.mark.parametrize("name", ["tags", "price", "nobody"])
def test_only_features_of_one_id_can_be_sliced(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no feature called {name} has one id per row"):
        configured(metric_slices=[name])


def test_slices_are_weighted(tmp_path: Path) -> None:
    config = small_config(
        dataset=small_config().dataset.model_dump() | {"weight": "w"},
        training={
            "model": "persia_core.models.dlrm:DLRM",
            "metric_slices": ["hour"],
            "metric_slice_values": 24,
        },
    )
    rng = np.random.default_rng(2)
    rows = small_rows(ROWS, seed=4) | {"w": rng.integers(0, 4, ROWS).tolist()}
    store = LocalStore(tmp_path / "store")
    write_hashed_partition(config, store, DS, rows, rows_per_part=150)
    partition = open_partition(store, config, DS, tmp_path / "work")
    scores = rng.random(ROWS).astype(np.float32)
    table = hashed_table(config, rows)
    weights = read_weights(partition)
    assert weights is not None and weights.tolist() == table["weight"].to_pylist()
    found = slices_of(config, partition, read_labels(partition), scores, weights)["hour"]
    hours = [time % 86_400 // 3600 for time in table["time"].to_pylist()]
    for each in found:
        repeated = [
            row
            for row, hour in enumerate(hours)
            if str(hour) == each["value"]
            for _ in range(int(weights[row]))
        ]
        expected = summary(table["label"].to_numpy()[repeated], scores[repeated])
        assert each["weight"] == len(repeated)
        assert (each["auc"], each["log_loss"]) == pytest.approx((expected["auc"], expected["log_loss"]))
