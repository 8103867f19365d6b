"""Mode async: dense parameters too are changed without waiting; the account and the cut stay exact."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from persia_core.config import ModelConfig, parse_config
from tests.integration.test_oracle import check_equal, every_kind
from tests.integration.test_training import DAYS, changed, marked, metrics_of, place
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_rows
from tests.support.training import TrainingPlace

__all__ = ["place"]

pytestmark = pytest.mark.mpi

ADAM = {"name": "Adam", "args": {"lr": 0.01}}


def asynchronous(config: ModelConfig, trainers: int, staleness: int = 2) -> ModelConfig:
    training = {"mode": "async", "staleness": staleness, "dense_optimizer": ADAM}
    return changed(config, training=training, cluster={"servers": 2, "trainers": trainers})


def dense_steps(run_dir: Path) -> int:
    """How many steps Adam has taken, by the checkpoint."""
    return int(load_file(run_dir / "checkpoint" / "optimizer.safetensors")["0.step"])


def test_one_trainer_without_staleness_equals_plain_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = asynchronous(every_kind("adagrad"), trainers=1, staleness=1)
    rows = small_rows(64 * 10 - 17, seed=5)
    check_equal(config, rows, TrainingPlace(tmp_path, monkeypatch), steps=10)


def test_every_sample_of_every_trainer_is_trained_once(place: TrainingPlace) -> None:
    config = asynchronous(every_kind("adagrad"), trainers=3)
    write_hashed_partition(config, place.store, DAYS[0], small_rows(64 * 12 + 1, seed=2))
    run_dir = place.train(config, DAYS[0])
    metrics = metrics_of(run_dir)
    assert (metrics["rows_in"], metrics["rows_trained"], metrics["rows_skipped"]) == (769, 769, {})
    assert metrics["visits"] == {"trained": 769, "skipped": 0}
    assert metrics["steps"] == 13
    assert metrics["staleness"]["max"] <= 2
    assert dense_steps(run_dir) == 3 * 12 + 1, "the last step has one row: two trainers had nothing to do"


def test_trainers_do_not_wait_for_one_another(place: TrainingPlace) -> None:
    """Trainer 1 begins only when trainer 0 is at its last batch: any barrier on the way would never end."""
    waits = {
        "model": "tests.support.models:WaitsForTheOther",
        "model_args": {"path": str(place.home / "last batch"), "batches": 20},
    }
    config = changed(asynchronous(every_kind("sgd"), trainers=2), training=waits)
    write_hashed_partition(config, place.store, DAYS[0], small_rows(64 * 20, seed=3))
    run_dir = place.train(config, DAYS[0])
    assert metrics_of(run_dir)["rows_trained"] == 64 * 20
    assert dense_steps(run_dir) == 40


def test_a_batch_that_is_not_finite_is_skipped_by_its_trainer_alone(place: TrainingPlace) -> None:
    config, rows = marked(share=0.5)
    config = asynchronous(config, trainers=2)
    write_hashed_partition(config, place.store, DAYS[0], rows)
    run_dir = place.train(config, DAYS[0])
    metrics = metrics_of(run_dir)
    assert metrics["rows_skipped"] == {"non_finite_gradient": 32}
    assert metrics["rows_trained"] == 64 * 5 - 32
    assert dense_steps(run_dir) == 9
    assert all(
        np.isfinite(found).all() for found in load_file(run_dir / "checkpoint/dense.safetensors").values()
    )


def test_the_gpu_is_refused(tmp_path: Path) -> None:
    document = every_kind("sgd").model_dump()
    document["training"] |= {"mode": "async", "device": "cuda"}
    with pytest.raises(Exception, match="async keeps the dense parameters in the host's memory"):
        parse_config(document, "here")
