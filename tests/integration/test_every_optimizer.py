"""Mode sync with every optimizer and pooling: one trainer equals the oracle, and several equal one.

All combinations are tables of one model, so that each number of trainers takes one job.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from persia_core.config import ModelConfig, parse_config
from tests.integration.test_training import DAYS, place
from tests.support.hashed import Rows, hashed_table, write_hashed_partition
from tests.support.plain import largest_relative_difference, saved_rows
from tests.support.row_optimizers import EveryOptimizer
from tests.support.small_config import small_config, small_rows
from tests.support.training import TrainingPlace

__all__ = ["place"]

pytestmark = pytest.mark.mpi

BATCH, STEPS = 60, 12
ROWS = BATCH * STEPS + 2  # the last step has fewer rows than there are trainers
TOLERANCE = 1e-5

# Steps that divide by the root of a sum of squares begin with a sum that is not 0: else the last bit of a
# gradient that all but cancels decides the sign of a whole step.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"kind": "sgd", "learning_rate": 0.5, "momentum": 0.9, "weight_decay": 0.01},
    "adagrad": {"kind": "adagrad", "learning_rate": 2.0, "initial_accumulator": 0.1, "epsilon": 1e-6},
    "rowwise": {"kind": "rowwise_adagrad", "learning_rate": 2.0, "initial_accumulator": 0.1},
    "adam": {"kind": "adam", "learning_rate": 0.05, "beta1": 0.8, "beta2": 0.95, "epsilon": 0.01},
    "ftrl": {"kind": "ftrl", "learning_rate": 5.0, "initial_accumulator": 0.1, "l1": 1e-4, "l2": 0.01},
}
POOLINGS = ("sum", "mean", "sqrtn")
IN_TORCH = ("sgd", "adagrad", "adam")


def every_optimizer(trainers: int) -> ModelConfig:
    """A table for each optimizer and pooling, trained by two bags; and some with ids that every batch has."""
    names = [f"{name}_{pooling}" for name in OPTIMIZERS for pooling in POOLINGS]
    few = [f"few_{name}" for name in IN_TORCH]
    features: list[dict[str, Any]] = [{"name": "age", "kind": "dense", "std": 100.0, "clip": [-1, 1]}]
    for name in names:
        for column in ("tags", "more"):
            bag = {"kind": "multi-categorical", "column": column, "table": name, "max_length": 4}
            features.append({"name": f"{name}_{column}", **bag})
    features += [{"name": name, "kind": "categorical", "column": "few", "table": name} for name in few]
    tables = [
        {
            "name": name,
            "prefix": 1 + index,
            "dim": 3,
            "pooling": name.split("_")[1] if name in names else "sum",
            "optimizer": OPTIMIZERS[name.split("_")[0 if name in names else 1]],
            "initializer": {"kind": "uniform", "low": -0.1, "high": 0.1},
        }
        for index, name in enumerate(names + few)
    ]
    training = {
        "mode": "sync",
        "staleness": 1,
        "global_batch_size": BATCH,
        "model": "persia_core.models.dnn:DNN",
        "dense_optimizer": {"name": "SGD", "args": {"lr": 0.1, "momentum": 0.9}},
    }
    cluster = {"servers": 2, "server_threads": 2, "trainers": trainers}
    return small_config(features=features, tables=tables, training=training, cluster=cluster)


def raw_rows() -> Rows:
    rows = small_rows(ROWS, seed=11)
    rng = np.random.default_rng(12)
    rows["more"] = [
        " ".join(f"t{tag}" for tag in rng.integers(0, 30, rng.integers(0, 6))) for _ in range(ROWS)
    ]
    rows["few"] = [f"f{row % 2}" for row in range(ROWS)]
    rows["t"] = [str(second) for second in range(ROWS)]  # in this order, so that every step has both
    return rows


@pytest.mark.parametrize("trainers", [1, 3])
def test_every_optimizer_equals_the_oracle(place: TrainingPlace, trainers: int) -> None:
    config = every_optimizer(trainers)
    write_hashed_partition(config, place.store, DAYS[0], raw_rows())
    checkpoint: Path = place.train(config, DAYS[0]) / "checkpoint"

    plain = EveryOptimizer(
        config, hashed_table(config, raw_rows()), tuple(f"few_{name}" for name in IN_TORCH)
    )
    before = {table.name: plain.rows_of(table.name) for table in config.tables}
    before = {name: {id_: row.copy() for id_, row in rows.items()} for name, rows in before.items()}
    for start in range(0, ROWS, BATCH):
        plain.step(range(start, min(start + BATCH, ROWS)))

    dense = load_file(checkpoint / "dense.safetensors")
    for name, tensor in plain.dense.state_dict().items():
        assert largest_relative_difference(dense[name], tensor.numpy()) <= TOLERANCE, name
    for table in config.tables:
        found, expected = saved_rows(checkpoint, table.name), plain.rows_of(table.name)
        assert found.keys() == expected.keys(), table.name
        stacked = np.stack([found[id_] for id_ in expected])
        wanted = np.stack(list(expected.values()))
        assert largest_relative_difference(stacked, wanted) <= TOLERANCE, table.name
        moved = np.abs(wanted - np.stack([before[table.name][id_] for id_ in expected])).max()
        assert moved > 1000 * TOLERANCE * np.abs(wanted).max(), f"{table.name} was hardly trained"


def test_every_optimizer_and_pooling_that_a_table_may_have_is_there() -> None:
    schema = ModelConfig.model_json_schema()["$defs"]["EmbeddingTable"]["properties"]
    assert set(schema["optimizer"]["discriminator"]["mapping"]) == {o["kind"] for o in OPTIMIZERS.values()}
    assert set(schema["pooling"]["enum"]) == set(POOLINGS)
    assert parse_config(every_optimizer(2).model_dump(), "here").cluster.trainers == 2
