"""Training runs without training: a partition, a model that fits it, and the run directory it would leave.

The predictions are made here by plain loops over dictionaries, independent of the product's pooling.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from persia_core.config import ModelConfig, parse_config
from persia_core.handoff.manifest import Lineage, Manifest, digest_of, part_of
from persia_core.handoff.object_store import ObjectStore
from persia_core.models.dlrm import DLRM
from persia_core.training.calibration import calibration_bins
from persia_core.training.metrics import summary
from tests.support.hashed import hashed_table, write_hashed_table

Weights = dict[str, dict[int, NDArray[np.float32]]]  # table -> unsigned id -> row
DIM = 4


def small_config(url: str = "s3://unused", **changes: Any) -> ModelConfig:
    """Every kind of feature, two features on one table, both poolings."""
    adagrad = {"kind": "adagrad", "learning_rate": 0.1}
    document: dict[str, Any] = {
        "name": "small",
        "dataset": {"name": "clicks", "format": "csv", "time_column": "timestamp", "salt": "s<&>\"'"},
        "features": [
            {"name": "user", "kind": "categorical", "table": "user"},
            {"name": "price", "kind": "dense"},
            {"name": "item", "kind": "categorical", "table": "item", "missing": "zero"},
            {"name": "history", "kind": "multi-categorical", "table": "item"},
            {"name": "tags", "kind": "multi-categorical", "table": "tag"},
            {"name": "hour", "kind": "timestamp", "part": "hour", "table": "hour"},
        ],
        "tables": [
            {"name": "user", "prefix": 1, "dim": DIM, "optimizer": adagrad},
            {"name": "item", "prefix": 2, "dim": DIM, "optimizer": adagrad},
            {"name": "tag", "prefix": 255, "dim": DIM, "pooling": "mean", "optimizer": adagrad},
            {"name": "hour", "prefix": 4, "dim": DIM, "optimizer": {"kind": "sgd", "learning_rate": 0.1}},
        ],
        "training": {
            "model": "persia_core.models.dlrm:DLRM",
            "model_args": {"bottom_mlp": [8], "top_mlp": [8]},
        },
        "storage": {"url": url},
        "gates": {"min_rows": 50},
    }
    # An ONNX file takes two seconds to make: only tests that are about it ask for one.
    return parse_config(document | changes | {"export": {"onnx": False} | changes.get("export", {})}, "test")


def raw_rows(rows: int, seed: int) -> dict[str, list[Any]]:
    """Values of every column of `small_config`, with missing ones and empty bags among them."""
    rng = np.random.default_rng(seed)

    def bag(values: int, longest: int) -> str:
        return " ".join(str(value) for value in rng.integers(values, size=rng.integers(longest + 1)))

    return {
        "user": [str(value) for value in rng.integers(40, size=rows)],
        "price": [float(value) for value in rng.normal(size=rows)],
        "item": [str(value) if value else "" for value in rng.integers(30, size=rows)],
        "history": [bag(30, 4) for _ in range(rows)],
        "tags": [bag(9, 3) for _ in range(rows)],
        "timestamp": [1_700_000_000 + 600 * i for i in range(rows)],
        "label": [0.0] * rows,
    }


@dataclass(frozen=True)
class FakeModel:
    """What training would have made."""

    weights: Weights
    network: DLRM


def make_model(config: ModelConfig, table: pa.Table, seed: int) -> FakeModel:
    """Rows for about nine in ten of the partition's ids, and a dense network."""
    rng = np.random.default_rng(seed)
    weights: Weights = {t.name: {} for t in config.tables}
    for feature in config.id_features:
        for ids in bags_of(table, feature.name):
            for id_ in ids:
                if id_ % 10 != 3 and id_ not in weights[feature.table]:
                    weights[feature.table][id_] = rng.normal(size=DIM).astype(np.float32)
    torch.manual_seed(seed)
    dims = {feature.name: DIM for feature in config.id_features}
    return FakeModel(weights, DLRM(len(config.dense_features), dims, bottom_mlp=(8,), top_mlp=(8,)).eval())


def opposite(model: FakeModel) -> FakeModel:
    """A model that ranks the other way round."""
    network = DLRM(
        model.network.dense_dim, model.network.embedding_dims, bottom_mlp=(8,), top_mlp=(8,)
    ).eval()
    network.load_state_dict(model.network.state_dict())
    last = network.top[-1]
    with torch.no_grad():
        last.weight.neg_()
        last.bias.neg_()
    return FakeModel(model.weights, network)


def bags_of(table: pa.Table, name: str) -> list[list[int]]:
    """The unsigned ids of every row; a null is an empty bag."""
    bags = []
    for value in table[name].to_pylist():
        ids = value if isinstance(value, list) else [] if value is None else [value]
        bags.append([id_ % (1 << 64) for id_ in ids])
    return bags


def oracle_pooled(config: ModelConfig, model: FakeModel, table: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Feature -> [rows, dim], row by row and id by id."""
    out = {}
    for feature in config.id_features:
        rows, pooling = model.weights[feature.table], config.table(feature.table).pooling
        pooled = np.zeros((table.num_rows, DIM))
        for i, ids in enumerate(bags_of(table, feature.name)):
            for id_ in ids:
                pooled[i] += rows.get(id_, np.zeros(DIM))
            if pooling == "mean" and ids:
                pooled[i] /= len(ids)
        out[feature.name] = pooled
    return out


def oracle_predict(config: ModelConfig, model: FakeModel, table: pa.Table) -> NDArray[np.float32]:
    """Probabilities, float32 [rows]."""
    dense = [table[feature.name].to_pylist() for feature in config.dense_features]
    with torch.inference_mode():
        logits = model.network(
            torch.tensor(dense, dtype=torch.float32).reshape(len(dense), -1).T,
            {
                name: torch.tensor(pooled, dtype=torch.float32)
                for name, pooled in oracle_pooled(config, model, table).items()
            },
        )
        return torch.sigmoid(logits).numpy()


@dataclass(frozen=True)
class Day:
    """A partition in the store, and a model that predicts its labels well but not perfectly."""

    ds: str
    table: pa.Table
    model: FakeModel
    manifest: Manifest


def make_day(
    config: ModelConfig, store: ObjectStore, ds: str, *, rows: int = 300, seed: int = 0, noise: float = 0.05
) -> Day:
    """Store the hashed partition `ds`; its labels follow the model of `seed`, with noise."""
    table = hashed_table(config, raw_rows(rows, seed))
    model = make_model(config, table, seed)
    predicted = oracle_predict(config, model, table)
    noisy = predicted + np.random.default_rng(seed).normal(scale=noise, size=len(predicted))
    labels = pa.array((noisy > np.median(predicted)).astype(np.float32))
    table = table.set_column(0, "label", labels)
    return Day(ds, table, model, write_hashed_table(config, store, ds, table, rows_per_part=200))


def make_run(
    config: ModelConfig,
    day: Day,
    run_dir: Path,
    *,
    model: FakeModel | None = None,
    before: FakeModel | None = None,
    parent: str | None = None,
    servers: int = 2,
) -> Path:
    """Write the run directory that training `day` to `model` (default: its own) would leave."""
    model = model or day.model
    directory = run_dir / "checkpoint"
    directory.mkdir(parents=True)
    save_torch(model.network.state_dict(), directory / "dense.safetensors")
    save_torch({"0.step": torch.zeros(1)}, directory / "optimizer.safetensors")
    (directory / "state.json").write_text("{}")
    kinds = {"optimizers": ",".join(f"{t.name}={t.optimizer.kind}" for t in config.tables)}
    for server in range(servers):
        path = directory / f"embedding-{server}.safetensors"
        save_file(_shard(config, model.weights, server, servers), path, metadata=kinds)
    parts = [part_of(directory, path) for path in sorted(directory.iterdir())]
    manifest = Manifest(
        kind="checkpoint",
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint=config.schema_fingerprint(),
        lineage=Lineage(
            dataset=config.dataset.name,
            ds=day.ds,
            parent=parent,
            hashed_digest=day.manifest.digest,
            config_digest=config.digest(),
            code_version="test",
        ),
        details={
            "model": config.name,
            "servers": servers,
            "step": 0,
            "tables": {t.name: {"dim": t.dim, "optimizer": t.optimizer.kind} for t in config.tables},
        },
    )
    (directory / "manifest.json").write_bytes(manifest.to_bytes())
    predicted = oracle_predict(config, model, day.table)
    parity = day.table.append_column("prediction", pa.array(predicted)).slice(0, 128)
    pq.write_table(parity, run_dir / "parity.parquet")
    labels = day.table["label"].to_numpy()
    earlier = None if before is None else summary(labels, oracle_predict(config, before, day.table))
    metrics = {
        "rows_in": day.table.num_rows,
        "rows_trained": day.table.num_rows - 1,
        "rows_skipped": {"<not finite>": 1},
        "before": earlier,
        "after": summary(labels, predicted),
        "staleness": {"max": 3, "histogram": {"1": 5, "2": 9, "3": 1, "10": 2}},
        "table_rows": {name: len(rows) for name, rows in model.weights.items()},
        "steps": 17,
        "seconds": 1.5,
        "samples_per_second": 200.0,
        "loss": [[step, 0.7 - step / 1000] for step in range(300)],
        "calibration_bins": {
            "before": []
            if before is None
            else calibration_bins(labels, oracle_predict(config, before, day.table)),
            "after": calibration_bins(labels, predicted),
        },
    }
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    return run_dir


def _shard(config: ModelConfig, weights: Weights, server: int, servers: int) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for table in config.tables:
        mine = sorted(id_ for id_ in weights[table.name] if id_ % servers == server)
        rows = [weights[table.name][id_] for id_ in mine]
        tensors[f"{table.name}.ids"] = np.array(mine, np.uint64)
        tensors[f"{table.name}.weights"] = np.array(rows, np.float32).reshape(len(mine), table.dim)
        if table.state_dim:
            tensors[f"{table.name}.state"] = np.ones((len(mine), table.state_dim), np.float32)
    return tensors
