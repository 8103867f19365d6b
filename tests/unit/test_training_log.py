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


@pytest.mark.parametrize("cut", [10, 11, 300])
def test_a_retry_leaves_the_lines_of_a_run_without_interruption(tmp_path: Path, cut: int) -> None:
    """The first attempt gets beyond the cut, and its last line is torn."""

    def go(run_dir: Path, account: Account, steps: range, state: dict[str, float] | None) -> dict[str, float]:
        at_cut: dict[str, float] = {}
        training_log = TrainingLog(run_dir, account, 0, True, False)
        if state is not None:
            training_log.load_state_dict(state)
        with training_log:
            for step in steps:
                if step == cut:
                    at_cut = training_log.state_dict()
                training_log.loss(float(step), 2)
                account.trained(np.arange(3))
                training_log.step(step, 3, step % 4, dict)
        return at_cut

    whole, first, retried = (Account(rows=STEPS * 3, steps=STEPS, epochs=1) for _ in range(3))
    for name in ("whole", "run"):
        (tmp_path / name).mkdir()
    go(tmp_path / "whole", whole, range(STEPS), None)
    state = go(tmp_path / "run", first, range(min(STEPS, cut + 30)), None)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4')
    retried.load_state_dict(
        {
            "steps": cut,
            "trained": 3 * cut,
            "skipped": 0,
            "unexplained": 0,
            "ids_truncated": 0,
            "losses": [[step, loss] for step, loss in first.losses if step < cut],
        },
        {},
        0,
    )
    go(tmp_path / "run", retried, range(cut, STEPS), json.loads(json.dumps(state)))
    expected, found = lines_of(tmp_path / "whole"), lines_of(tmp_path / "run")
    for line in [*expected, *found]:
        del line["samples_per_second"]
    assert found == expected
    assert retried.losses == whole.losses
