"""Samples with weights: training and metrics against plain PyTorch in float64, and pairs counted in NumPy."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from persia_core.config import ModelConfig
from persia_core.data.partition import open_partition
from persia_core.handoff.evaluate import predict_partition
from persia_core.handoff.export import export_version
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.serving_model import load_model
from persia_core.training.batches import total_weight
from persia_core.training.network import Place
from persia_core.training.staging import HostStaging, Inputs
from tests.support.hashed import Rows, hashed_table, write_hashed_partition
from tests.support.one_trainer import OneTrainer
from tests.support.plain import PlainModel, largest_relative_difference, saved_rows
from tests.support.small_config import small_config, small_rows
from tests.support.training import TrainingPlace

DS = "2026-01-01"
BATCH, STEPS = 64, 15
Array = NDArray[np.float64]


def configured(trainers: int = 1, embedding_workers: int = 0) -> ModelConfig:
    base = small_config()
    tables = [
        {
            **table.model_dump(),
            "pooling": "mean",
            "optimizer": {"kind": "adagrad", "learning_rate": 0.05, "initial_accumulator": 0.1},
            "initializer": {"kind": "uniform", "low": -0.1, "high": 0.1},
        }
        for table in base.tables
    ]
    return small_config(
        dataset=base.dataset.model_dump() | {"weight": "importance"},
        tables=tables,
        training={
            "mode": "sync",
            "staleness": 1,
            "global_batch_size": BATCH,
            "model": "persia_core.models.dnn:DNN",
            "dense_optimizer": {"name": "SGD", "args": {"lr": 0.1}},
        },
        cluster={"servers": 2, "trainers": trainers, "embedding_workers": embedding_workers},
    )


def weighted_rows(count: int) -> Rows:
    """Weights from 0 to 7.5 in no relation to the trainers' shares; all of one step are 0."""
    rows = small_rows(count, seed=5)
    order = sorted(range(count), key=lambda row: int(rows["t"][row]))
    weights = np.random.default_rng(8).choice([0.0, 0.25, 1.0, 7.5], count)
    weights[order[3 * BATCH : 4 * BATCH]] = 0.0
    return rows | {"importance": [str(weight) for weight in weights]}


@pytest.mark.mpi
@pytest.mark.parametrize(("trainers", "embedding_workers"), [(1, 0), (2, 1)])
def test_weighted_training_and_metrics_equal_the_oracles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainers: int, embedding_workers: int
) -> None:
    config, rows = configured(trainers, embedding_workers), weighted_rows(BATCH * STEPS - 17)
    place = TrainingPlace(tmp_path, monkeypatch)
    write_hashed_partition(config, place.store, DS, rows)
    run_dir = place.train(config, DS)
    checkpoint = run_dir / "checkpoint"

    plain = PlainModel(config, hashed_table(config, rows), dtype=torch.float64)
    for step in range(STEPS):
        plain.step(range(step * BATCH, min((step + 1) * BATCH, len(rows["label"]))))
    for name, tensor in plain.dense.state_dict().items():
        found = load_file(checkpoint / "dense.safetensors")[name]
        assert largest_relative_difference(found, tensor.numpy()) <= 2e-5, name
    for table in config.tables:
        trained, expected = saved_rows(checkpoint, table.name), plain.rows_of(table.name)
        stacked = np.stack([trained[id_] for id_ in expected])
        assert largest_relative_difference(stacked, np.stack(list(expected.values()))) <= 2e-5, table.name

    parity = pq.read_table(run_dir / "parity.parquet")
    after = json.loads((run_dir / "metrics.json").read_text())["after"]
    label, weight, predicted = (
        parity[name].to_numpy().astype(np.float64) for name in ("label", "weight", "prediction")
    )
    assert after == pytest.approx(by_definition(label, predicted, weight), rel=1e-6)

    version = tmp_path / "version"
    version.mkdir()
    manifest = Manifest.from_bytes((checkpoint / "manifest.json").read_bytes(), "checkpoint")
    export_version(config, run_dir, manifest, version, prefix="checkpoints/x/", parent=None)
    partition = open_partition(place.store, config, DS, tmp_path / "work")
    assert predict_partition(load_model(version), partition).summary() == pytest.approx(after, rel=1e-5)


def by_definition(label: Array, predicted: Array, weight: Array) -> dict[str, Any]:
    """The metrics, the AUC pair by pair."""
    total = weight.sum()
    rate = (weight * label).sum() / total
    loss = -(weight * np.log(np.where(label == 1, predicted, 1 - predicted))).sum() / total
    up, down = label == 1, label == 0
    pairs = weight[up][:, None] * weight[down]
    difference = predicted[up][:, None] - predicted[down]
    return {
        "rows": label.size,
        "weight": total,
        "label_rate": rate,
        "auc": (pairs * ((difference > 0) + 0.5 * (difference == 0))).sum() / pairs.sum(),
        "log_loss": loss,
        "normalised_entropy": loss / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)),
        "calibration": (weight * predicted).sum() / (weight * label).sum(),
    }


def test_the_weight_of_a_step_is_that_of_its_rows(tmp_path: Path) -> None:
    config, rows = configured(), weighted_rows(BATCH)
    store = LocalStore(tmp_path / "store")
    write_hashed_partition(config, store, DS, rows, rows_per_group=10)
    partition = open_partition(store, config, DS, tmp_path / "work")
    weights = hashed_table(config, rows)["weight"].to_numpy().astype(np.float64)
    for chosen in (np.arange(BATCH), np.array([60, 3, 17]), np.arange(0)):
        assert total_weight(partition, chosen) == weights[chosen].sum()


def test_the_shares_of_a_step_add_up_to_it() -> None:
    """Gradients of a share, divided by the weight of the step, are those of the step; and of none, none."""
    one = OneTrainer(configured(), BATCH)
    weights = np.random.default_rng(1).choice([0.0, 0.5, 3.0], BATCH).astype(np.float32)
    whole = replace(one.data(0), weights=weights)
    lookup = one.lookup(0, whole)

    def gradients(low: int, high: int, total: float) -> list[NDArray[np.float32]]:
        assert whole.weights is not None
        inputs = HostStaging().inputs(whole, lookup)
        share = Inputs(
            inputs.dense[low:high],
            inputs.labels[low:high],
            [pooled[low:high].reshape(-1) for pooled in map(torch.from_numpy, lookup.pooled)],
            [Place(n, 0, (high - low, *pooled.shape[1:])) for n, pooled in enumerate(lookup.pooled)],
            inputs.masks,
            weights=torch.from_numpy(whole.weights[low:high]),
        )
        result = one.step.run(share, total)
        assert result.skip is None
        dense = [p.grad.numpy().copy() for p in one.dense.model.parameters() if p.grad is not None]
        return [*dense, *(gradient.copy() for gradient in result.gradients)]

    total = whole.total_weight
    assert total == weights.sum(dtype=np.float64)
    step, first, second = gradients(0, BATCH, total), gradients(0, 20, total), gradients(20, BATCH, total)
    dense = len(step) - len(lookup.pooled)
    for n, expected in enumerate(step):
        found = first[n] + second[n] if n < dense else np.concatenate([first[n], second[n]])
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert np.abs(expected).max() > 1e-6
    assert all((gradient == 0).all() for gradient in gradients(0, BATCH, 0.0))
