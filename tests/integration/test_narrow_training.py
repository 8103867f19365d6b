"""Training with weights of 16 bits learns what training in float32 learns."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from persia_core.config import ModelConfig, parse_config
from tests.integration.test_oracle import every_kind
from tests.support.hashed import Rows, write_hashed_partition
from tests.support.small_config import small_rows
from tests.support.training import TrainingPlace

pytestmark = pytest.mark.mpi

DS = "2026-01-01"


def learnable_rows(count: int) -> Rows:
    """Rows whose label depends on user and item, with some noise."""
    rows = dict(small_rows(count, seed=11))
    labels = []
    for at, (user, item) in enumerate(zip(rows["user"], rows["item"], strict=True)):
        liked = parity(user) + parity(item) > 0
        labels.append(str(int(liked) if at % 20 else 1 - int(liked)))
    rows["label"] = labels
    return rows


def parity(value: str | None) -> int:
    return 0 if value is None else int(value[1:]) % 2


def config_of(weight_type: str) -> ModelConfig:
    document = every_kind("adagrad").model_dump()
    adam = {"name": "Adam", "args": {"lr": 0.01}}
    document["training"] |= {"mode": "sync", "staleness": 1, "epochs": 6, "dense_optimizer": adam}
    for table in document["tables"]:
        table["weight_type"] = weight_type
        table["optimizer"]["learning_rate"] = 0.2
    return parse_config(document, weight_type)


def test_training_with_16_bits_learns_like_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for weight_type in ("float32", "bfloat16", "float16"):
        place = TrainingPlace(tmp_path / weight_type, monkeypatch)
        config = config_of(weight_type)
        write_hashed_partition(config, place.store, DS, learnable_rows(2000))
        run_dir = place.train(config, DS)
        metrics = json.loads((run_dir / "metrics.json").read_text())
        found[weight_type] = metrics["after"]["auc"]
        assert all(t["saturated"] == 0 for s in metrics["servers"] for t in s["tables"].values())
        part = load_file(run_dir / "checkpoint" / "embedding-0.safetensors")
        assert part["user.weights"].dtype == getattr(torch, weight_type)
    assert found["float32"] > 0.8
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.02)
    assert found["float16"] == pytest.approx(found["float32"], abs=0.02)
