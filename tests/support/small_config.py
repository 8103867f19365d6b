"""A configuration with every kind of feature, and raw rows for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from persia_core.config import ModelConfig, parse_config


def small_config(**changes: Any) -> ModelConfig:
    """Two features share a table, one has no row for missing values, bags hold at most 3 ids."""
    optimizer = {"kind": "sgd", "learning_rate": 0.1}
    document: dict[str, Any] = {
        "name": "small",
        "dataset": {"name": "clicks", "format": "csv", "time_column": "t", "salt": "pepper"},
        "features": [
            {"name": "price", "kind": "dense", "transform": "log1p", "mean": 1.0, "std": 2.0},
            {"name": "user", "kind": "categorical", "table": "user"},
            {"name": "item", "kind": "categorical", "table": "item"},
            {"name": "last", "kind": "categorical", "table": "item", "missing": "zero"},
            {"name": "age", "kind": "dense", "clip": [0, 100], "missing": -1.0},
            {"name": "hour", "kind": "timestamp", "part": "hour", "table": "hour"},
            {"name": "tags", "kind": "multi-categorical", "table": "tag", "max_length": 3},
        ],
        "tables": [
            {"name": name, "prefix": prefix, "dim": 4, "optimizer": optimizer}
            for name, prefix in (("user", 1), ("item", 2), ("hour", 200), ("tag", 3))
        ],
        "training": {"model": "persia_core.models.dlrm:DLRM"},
        "storage": {"url": "file:///nowhere"},
    }
    document.update(changes)
    return parse_config(document, "small_config")


def small_rows(n: int, seed: int = 0, first_second: int = 0) -> dict[str, Sequence[Any]]:
    """n raw rows with missing values of every kind, in no particular order of time."""
    rng = np.random.default_rng(seed)

    def some(values: list[Any], share: float) -> list[Any]:
        return [None if skip else value for value, skip in zip(values, rng.random(n) < share, strict=True)]

    return {
        "label": [str(int(value)) for value in rng.random(n) < 0.3],
        "t": [str(first_second + int(value)) for value in rng.integers(0, 86_400, n)],
        "price": some([f"{value:.3f}" for value in rng.exponential(10, n)], 0.1),
        "user": some([f"u{value}" for value in rng.integers(0, 50, n)], 0.05),
        "item": [f"i{value}" for value in rng.zipf(1.5, n) % 100],
        "last": some([f"i{value}" for value in rng.zipf(1.5, n) % 100], 0.4),
        "age": some([str(value) for value in rng.integers(-5, 120, n)], 0.1),
        "tags": [" ".join(f"t{tag}" for tag in rng.integers(0, 9, rng.integers(0, 6))) for _ in range(n)],
    }
