"""What a training leaves to be looked at: every line adds up, and TensorBoard reads the same numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from persia_core.training.account import Account
from persia_core.training.training_log import TrainingLog

STEPS = 450  # more than there are points in a curve


def write(run_dir: Path, lead: bool = True, tensorboard: bool = False) -> tuple[Account, list[float]]:
    account = Account(rows=STEPS * 3, steps=STEPS, epochs=1)
    losses = np.random.default_rng(0).random(STEPS).tolist()
    with TrainingLog(run_dir, account, 1000, lead, tensorboard) as training_log:
        for step, loss in enumerate(losses):
            if step != 7:  # a skipped step has no loss
                training_log.loss(loss * 2, 2)

            def details(step: int = step) -> dict[str, Any]:
                tables = {"user": 0.1 * step}
                return {"learning_rates": {"dense": 0.5, "tables": tables}, "loss_scale": 2.0**step % 7}

            training_log.step(step, 3, step % 4, details)
    return account, losses


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_line_has_the_means_since_the_line_before(tmp_path: Path) -> None:
    account, losses = write(tmp_path)
    lines = lines_of(tmp_path)
    assert lines[-1]["step"] == STEPS - 1
    assert 200 <= len(lines) <= 400
    begin = 0
    for line in lines:
        end = line["step"] + 1
        seen = [loss for step, loss in enumerate(losses[begin:end], begin) if step != 7]
        assert line["loss"] == pytest.approx(np.mean(seen))
        assert line["staleness"] == pytest.approx(np.mean([step % 4 for step in range(begin, end)]), abs=1e-3)
        assert line["samples_per_second"] > 0
        assert line["learning_rates"] == {"dense": 0.5, "tables": {"user": 0.1 * (end - 1)}}
        begin = end
    assert account.losses == [(line["step"], line["loss"]) for line in lines]


def test_tensorboard_reads_the_same_numbers_at_the_steps_of_the_model(tmp_path: Path) -> None:
    write(tmp_path, tensorboard=True)
    reader = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    for name, of in (
        ("train/loss", lambda line: line["loss"]),
        ("train/staleness", lambda line: line["staleness"]),
        ("train/samples_per_second", lambda line: line["samples_per_second"]),
        ("train/loss_scale", lambda line: line["loss_scale"]),
        ("train/learning_rates/dense", lambda line: line["learning_rates"]["dense"]),
        ("train/learning_rates/tables/user", lambda line: line["learning_rates"]["tables"]["user"]),
    ):
        found = [(event.step, event.value) for event in reader.Scalars(name)]
        expected = [(1000 + line["step"], of(line)) for line in lines_of(tmp_path)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_other_trainers_write_nothing(tmp_path: Path) -> None:
    account, _ = write(tmp_path, lead=False, tensorboard=True)
    assert list(tmp_path.iterdir()) == []
    assert account.losses == []
