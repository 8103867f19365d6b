"""Mode sync, one trainer, a seed: training equals plain PyTorch to float32 rounding."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from persia_core.config import ModelConfig, parse_config
from persia_core.data.adult import CATEGORICAL, NUMERIC, read_adult
from persia_core.handoff.export import export_version
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.serving_model import load_model
from tests.support.hashed import Rows, hashed_table, write_hashed_partition
from tests.support.plain import PlainModel, largest_relative_difference, saved_rows
from tests.support.small_config import small_config, small_rows
from tests.support.training import SHARED_DATA, TrainingPlace, shipped_config

pytestmark = pytest.mark.mpi

DS = "2026-01-01"
STEPS = 200
TOLERANCE = 1e-5


def adult_rows(count: int) -> Rows:
    frame = read_adult(SHARED_DATA / "adult" / "adult.data").head(count)
    rows: Rows = {name: frame[name].tolist() for name in (*CATEGORICAL, *NUMERIC)}
    rows["label"] = frame["label"].tolist()
    return rows


def real_or_synthetic(steps: int) -> tuple[ModelConfig, Rows]:
    """Adult where its files lie beside the checkout, else made-up rows with every kind of feature."""
    training = {"mode": "sync", "staleness": 1, "global_batch_size": 128}
    if (SHARED_DATA / "adult" / "adult.data").exists():
        config = shipped_config("adult_dnn", training=training, cluster={"servers": 2})
        return settled(config), adult_rows(128 * steps)
    return every_kind("adagrad"), small_rows(64 * steps)


def settled(config: ModelConfig) -> ModelConfig:
    """The configuration with Adagrad accumulators that begin at 0.1.

    From 0 the first step of an element is learning_rate * sign(gradient): where a gradient all but cancels,
    its last bit decides the sign, and plain PyTorch in float32 is as far from float64 as from us.
    """
    document = config.model_dump()
    for table in document["tables"]:
        table["optimizer"]["initial_accumulator"] = 0.1
    return parse_config(document, "settled")


def every_kind(optimizer: str, pooling: str = "mean") -> ModelConfig:
    """All kinds of features, a table shared by two of them, missing ids and empty bags."""
    base = small_config()
    settings = {"kind": optimizer, "learning_rate": 0.05}
    if optimizer == "adagrad":
        settings["initial_accumulator"] = 0.1
    start = {"kind": "uniform", "low": -0.1, "high": 0.1}
    tables = [
        {**table.model_dump(), "pooling": pooling, "optimizer": settings, "initializer": start}
        for table in base.tables
    ]
    training = {
        "mode": "sync",
        "staleness": 1,
        "global_batch_size": 64,
        "model": "persia_core.models.dnn:DNN",
        "dense_optimizer": {"name": "SGD", "args": {"lr": 0.1}},
    }
    return small_config(tables=tables, training=training, cluster={"servers": 2, "trainers": 1})


def check_equal(config: ModelConfig, rows: Rows, place: TrainingPlace, steps: int) -> Path:
    """Train `rows` both ways; returns the run directory of the job."""
    write_hashed_partition(config, place.store, DS, rows)
    run_dir = place.train(config, DS)
    checkpoint = run_dir / "checkpoint"

    batch = config.training.global_batch_size
    plain = PlainModel(config, hashed_table(config, rows))
    before = {name: tensor.clone() for name, tensor in plain.dense.state_dict().items()}
    for step in range(steps):
        plain.step(range(step * batch, min((step + 1) * batch, len(rows["label"]))))

    dense = load_file(checkpoint / "dense.safetensors")
    assert dense.keys() == plain.dense.state_dict().keys()
    for name, tensor in plain.dense.state_dict().items():
        assert not np.array_equal(tensor.numpy(), before[name].numpy()), f"{name} was not trained at all"
        assert largest_relative_difference(dense[name], tensor.numpy()) <= TOLERANCE, name
    for table in config.tables:
        found, expected = saved_rows(checkpoint, table.name), plain.rows_of(table.name)
        assert found.keys() == expected.keys()
        stacked = np.stack([found[id_] for id_ in expected])
        difference = largest_relative_difference(stacked, np.stack(list(expected.values())))
        assert difference <= TOLERANCE, table.name
    return run_dir


def test_sync_training_equals_plain_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, rows = real_or_synthetic(STEPS)
    check_equal(config, rows, TrainingPlace(tmp_path, monkeypatch), STEPS)


@pytest.mark.parametrize(("optimizer", "pooling"), [("sgd", "sum"), ("adagrad", "mean"), ("sgd", "sqrtn")])
def test_every_kind_of_feature_equals_plain_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, pooling: str
) -> None:
    config = every_kind(optimizer, pooling)
    steps = 30
    rows = small_rows(64 * steps - 17, seed=5)  # the last batch is a short one
    check_equal(config, rows, TrainingPlace(tmp_path, monkeypatch), steps)


def with_sequences(embedding_workers: int) -> ModelConfig:
    """A sequence that shares its table with a categorical feature, one that truncates, and a pooled bag."""
    base = every_kind("adagrad", "sum")
    bag = {"kind": "multi-categorical", "column": "tags", "max_length": 5}
    features = [feature.model_dump() for feature in base.features if feature.name != "tags"]
    features += [
        bag | {"name": "history", "table": "item", "pooling": "sequence"},
        bag | {"name": "tags", "table": "tag", "pooling": "sqrtn"},
        bag | {"name": "latest", "table": "tag", "pooling": "sequence", "sequence_length": 2},
    ]
    training = base.training.model_dump() | {
        "model": "tests.support.models_with_sequences:PlacesThenDNN",
        "model_args": {"places": {"history": 5, "latest": 2}},
    }
    document = base.model_dump() | {
        "features": features,
        "training": training,
        "cluster": {"servers": 2, "trainers": 2, "embedding_workers": embedding_workers},
    }
    return parse_config(document, "with_sequences")


@pytest.mark.parametrize("embedding_workers", [0, 1])
def test_sequences_equal_plain_pytorch_and_the_export_predicts_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedding_workers: int
) -> None:
    config, steps = with_sequences(embedding_workers), 30
    rows = small_rows(64 * steps - 17, seed=5)
    place = TrainingPlace(tmp_path, monkeypatch)
    run_dir = check_equal(config, rows, place, steps)

    tags = [row.split() for row in rows["tags"]]
    dropped = sum(max(0, len(bag) - 2) for bag in tags)
    assert dropped > 0
    assert json.loads((run_dir / "metrics.json").read_text())["ids_truncated"] == dropped

    manifest = Manifest.from_bytes((run_dir / "checkpoint" / "manifest.json").read_bytes(), "checkpoint")
    version = tmp_path / "version"
    version.mkdir()
    export_version(config, run_dir, manifest, version, prefix="checkpoints/x/", parent=None)
    parity = pq.read_table(version / "parity.parquet")
    model = load_model(version)
    np.testing.assert_allclose(model.predict(parity), parity["prediction"].to_numpy(), atol=1e-6)
    # The sequences count: without the last id of each, predictions are others.
    shorter = [bag[:-1] for bag in parity["latest"].to_pylist()]
    at = parity.column_names.index("latest")
    changed = parity.set_column(at, "latest", pa.array(shorter, parity["latest"].type))
    assert np.abs(model.predict(changed) - parity["prediction"].to_numpy()).max() > 1e-3
