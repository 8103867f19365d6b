"""The options of a table, from the configuration to the native store."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from persia_core import _native
from persia_core.config.features import ROW_OVERHEAD_BYTES, EmbeddingTable
from persia_core.embedding.tables import table_spec

OPTIMIZERS: list[dict[str, Any]] = [
    {"kind": "sgd", "learning_rate": 0.1},
    {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    {"kind": "adagrad", "learning_rate": 0.1},
    {"kind": "rowwise_adagrad", "learning_rate": 0.1},
    {"kind": "adam", "learning_rate": 0.1},
    {"kind": "ftrl", "learning_rate": 0.1, "l1": 0.1},
]
INITIALIZERS: list[dict[str, Any]] = [
    {"kind": "zeros"}, {"kind": "uniform"}, {"kind": "normal"}, {"kind": "scaled_uniform"},
]  # fmt: skip
ADMISSIONS: list[dict[str, Any]] = [
    {"kind": "always"}, {"kind": "sightings", "count": 2}, {"kind": "probability", "probability": 0.5},
]  # fmt: skip


def table_of(**changes: Any) -> EmbeddingTable:
    base = {"name": "t", "prefix": 1, "dim": 6, "optimizer": OPTIMIZERS[0]}
    return EmbeddingTable.model_validate(base | changes)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("weight_type", "dim"), [("float32", 6), ("bfloat16", 6), ("float16", 5)])
def test_rows_are_as_wide_as_the_configuration_says(
    optimizer: dict[str, Any], weight_type: str, dim: int
) -> None:
    shape = {"weight_type": weight_type, "dim": dim}
    table = table_of(optimizer=optimizer, capacity_bytes=100_000, **shape)
    memory = _native.Store(dict(table_spec(table, 8)), 1).memory()
    row = {"float32": 24, "bfloat16": 12, "float16": 12}[weight_type] + 4 * table.state_dim
    assert memory["row_bytes"] == row
    assert memory["capacity_rows"] == 100_000 // (row + ROW_OVERHEAD_BYTES)
    smallest = row + ROW_OVERHEAD_BYTES
    table_of(optimizer=optimizer, capacity_bytes=smallest, **shape)
    with pytest.raises(ValidationError, match=f"at least the {smallest} bytes"):
        table_of(optimizer=optimizer, capacity_bytes=smallest - 1, **shape)


@pytest.mark.parametrize("initializer", INITIALIZERS)
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_every_kind_is_understood(initializer: dict[str, Any], admission: dict[str, Any]) -> None:
    spec = dict(table_spec(table_of(initializer=initializer, admission=admission), 8))
    store = _native.Store(spec, 1)
    ids = (np.uint64(1) << np.uint64(56)) + np.arange(1000, dtype=np.uint64)
    store.lookup(ids, training=True)
    rows = store.stats()["rows"]
    assert {"always": rows == 1000, "sightings": rows == 0, "probability": 400 < rows < 600}[
        admission["kind"]
    ]
    store.lookup(ids, training=True)
    assert store.stats()["rows"] == (1000 if admission["kind"] == "sightings" else rows)


def test_uniform_rows_must_fit_in_float16() -> None:
    wide = {"kind": "uniform", "low": -1.0, "high": 65_505.0}
    with pytest.raises(ValidationError, match="uniform reaches beyond 65504"):
        table_of(initializer=wide, weight_type="float16")
    table_of(initializer=wide, weight_type="bfloat16")
    table_of(initializer=wide | {"high": 65_504.0}, weight_type="float16")


def test_the_age_reaches_the_native_store() -> None:
    ids = (np.uint64(1) << np.uint64(56)) + np.arange(10, dtype=np.uint64)
    for eviction, left in ((None, 10), ({"max_age_days": 2}, 0), ({"max_age_days": 3}, 10)):
        store = _native.Store(dict(table_spec(table_of(eviction=eviction), 8)), 1)
        store.advance_day(7)
        store.lookup(ids, training=True)
        store.advance_day(10)
        assert store.stats()["rows"] == left


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 1.0}}, "momentum"),
        ({"optimizer": {"kind": "sgd", "learning_rate": 0.1, "weight_decay": -1}}, "weight_decay"),
        ({"optimizer": {"kind": "adam", "learning_rate": 0.1, "beta2": 1.0}}, "beta2"),
        ({"optimizer": {"kind": "ftrl", "learning_rate": 0.1, "l2": -0.1}}, "l2"),
        ({"optimizer": {"kind": "rowwise_adagrad", "learning_rate": 0.1, "epsilon": 0}}, "epsilon"),
        ({"optimizer": {"kind": "adagrad", "learning_rate": 0.1, "momentum": 0.5}}, "momentum"),
        ({"initializer": {"kind": "normal", "std": 0}}, "std"),
        ({"initializer": {"kind": "scaled_uniform", "scale": -1}}, "scale"),
        ({"admission": {"kind": "sightings", "count": 0}}, "count"),
        ({"admission": {"kind": "probability", "probability": 0}}, "probability"),
        ({"capacity_bytes": 0}, "capacity_bytes"),
        ({"weight_type": "float64"}, "weight_type"),
        ({"eviction": {"max_age_days": 0}}, "max_age_days"),
        ({"eviction": {}}, "max_age_days"),
    ],
)
def test_wrong_options_are_refused_by_name(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        table_of(**changes)
    assert where in str(caught.value.errors()[0]["loc"])
