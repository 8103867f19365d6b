"""Reduced precision in MPI jobs: all trainers skip together what overflows on one, rows included."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from persia_core.config import ModelConfig
from tests.integration.test_oracle import every_kind
from tests.integration.test_training import DAYS, changed, metrics_of, place, publish_checkpoint
from tests.support.hashed import hashed_table, write_hashed_partition
from tests.support.plain import PlainModel, largest_relative_difference, saved_rows
from tests.support.small_config import small_rows
from tests.support.training import TrainingPlace

__all__ = ["place"]

pytestmark = pytest.mark.mpi


def configured(precision: str, **training: Any) -> ModelConfig:
    section = {
        "model": "tests.support.models:OverflowOnMarkedBatch",
        "model_args": {"marker": 200.0},
        "max_skipped_share": 0.3,
        "precision": precision,
        "dense_optimizer": {"name": "SGD", "args": {"lr": 0.001}},  # ages are large: no amplified rounding
    }
    return changed(every_kind("adagrad"), training=section | training, cluster={"servers": 2, "trainers": 2})


def state_of(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "checkpoint" / "state.json").read_text())
    return found


def check_trained(checkpoint: Path, config: ModelConfig, plain: PlainModel, tolerance: float) -> None:
    dense = load_file(checkpoint / "dense.safetensors")
    for name, tensor in plain.dense.state_dict().items():
        assert largest_relative_difference(dense[name], tensor.numpy()) <= tolerance, name
    for table in config.tables:
        found = saved_rows(checkpoint, table.name)
        for id_, weights in plain.rows_of(table.name).items():
            assert abs(found[id_] - weights).max() <= tolerance * 0.1, table.name  # a row begins within 0.1


@pytest.mark.parametrize(
    ("precision", "reason"), [("float16", "loss_scale_overflow"), ("bfloat16", "non_finite_gradient")]
)
def test_infinite_row_gradients_of_one_trainer_skip_the_step_on_all(
    place: TrainingPlace, precision: str, reason: str
) -> None:
    scaling = {"loss_scaling": {"initial": 16.0}} if precision == "float16" else {}
    config = configured(precision, **scaling)
    rows = small_rows(64 * 5, seed=6)
    rows["t"] = [str(second) for second in range(64 * 5)]
    rows["price"] = ["1e308" if row == 130 else "3" for row in range(64 * 5)]  # of trainer 0 in step 2
    write_hashed_partition(config, place.store, DAYS[0], rows)
    run_dir = place.train(config, DAYS[0])
    metrics = metrics_of(run_dir)
    assert metrics["rows_skipped"] == {reason: 64}
    assert metrics["rows_trained"] == 64 * 4
    if precision == "float16":
        assert state_of(run_dir)["loss_scale"] == {"scale": 8.0, "without_overflow": 2}
    plain = PlainModel(config, hashed_table(config, rows))
    with torch.autocast("cpu", getattr(torch, precision)):
        for step in (0, 1, 3, 4):
            plain.step(range(step * 64, (step + 1) * 64))
    check_trained(run_dir / "checkpoint", config, plain, 2e-2)


def test_a_scale_that_is_too_high_is_lowered_and_goes_on_the_next_day(place: TrainingPlace) -> None:
    config = configured("float16", max_skipped_share=0.0, loss_scaling={"initial": 2.0**24})
    for day, ds in enumerate(DAYS):
        write_hashed_partition(config, place.store, ds, small_rows(64 * 30, seed=day))
    first = place.train(config, DAYS[0])
    overflows = metrics_of(first)["rows_skipped"]["loss_scale_overflow"] // 64
    assert 1 <= overflows < 20, "no share of skipped steps is allowed, but overflows do not count"
    assert metrics_of(first)["rows_trained"] == 64 * (30 - overflows)
    state = state_of(first)["loss_scale"]
    assert state["scale"] == 2.0 ** (24 - overflows)

    publish_checkpoint(place, config, DAYS[0], first)
    second = place.train(config, DAYS[1], cold_start=False)
    later = metrics_of(second)["rows_skipped"].get("loss_scale_overflow", 0) // 64
    assert state_of(second)["loss_scale"]["scale"] == state["scale"] / 2**later
    assert later <= 2, "the scale of the first day is about right for the second"
