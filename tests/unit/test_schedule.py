"""Learning rate schedules against those of torch, and every field of theirs."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.optim import lr_scheduler

from persia_core.config.features import EmbeddingTable
from persia_core.config.schedule import LearningRateSchedule
from persia_core.embedding.schedule import factor, learning_rate_factors
from tests.support.small_config import small_config

STEPS = 60
Decay = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]

KINDS: dict[str, tuple[dict[str, Any], Decay]] = {
    "constant": ({}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    "linear": (
        {"decay_steps": 20, "final_factor": 0.25},
        lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.25, total_iters=20),
    ),
    "cosine": (
        {"decay_steps": 20, "final_factor": 0.0},
        # torch's cosine rises again after T_max; ours stays at its end.
        lambda o: lr_scheduler.SequentialLR(
            o,
            [lr_scheduler.CosineAnnealingLR(o, T_max=20), lr_scheduler.ConstantLR(o, 0.0, total_iters=10**9)],
            [20],
        ),
    ),
    "exponential": ({"gamma": 0.9}, lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9)),
    "inverse_square_root": (
        {"decay_steps": 5},
        lambda o: lr_scheduler.LambdaLR(o, lambda t: (5 / (5 + t)) ** 0.5),
    ),
}


def schedule_of(kind: str, **fields: Any) -> LearningRateSchedule:
    made: LearningRateSchedule = TypeAdapter(LearningRateSchedule).validate_python({"kind": kind, **fields})
    return made


def rates_of_torch(make: Decay) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("kind", KINDS)
def test_the_decays_are_those_of_torch(kind: str) -> None:
    fields, theirs = KINDS[kind]
    schedule = schedule_of(kind, **fields)
    ours = [factor(schedule, step) for step in range(STEPS)]
    assert ours == pytest.approx(rates_of_torch(theirs), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["linear", "cosine", "exponential"])
def test_a_warm_up_comes_first_as_in_torch(kind: str) -> None:
    fields, theirs = KINDS[kind]
    schedule = schedule_of(kind, warmup_steps=8, warmup_start_factor=0.1, **fields)
    warmup = lr_scheduler.LinearLR
    expected = rates_of_torch(lambda o: warmup(o, start_factor=0.1, end_factor=1.0, total_iters=8))[:8]
    expected += rates_of_torch(theirs)
    ours = [factor(schedule, step) for step in range(STEPS + 8)]
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_cosine_ends_at_its_final_factor() -> None:
    schedule = schedule_of("cosine", decay_steps=20, final_factor=0.2)
    theirs = rates_of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20, eta_min=0.2))
    assert [factor(schedule, step) for step in range(21)] == pytest.approx(theirs[:21], rel=1e-9)
    assert factor(schedule, 10**9) == pytest.approx(0.2)


def test_the_schedule_of_the_transformer_is_one_of_ours() -> None:
    schedule = schedule_of("inverse_square_root", warmup_steps=40, decay_steps=40)
    for step in range(400):
        expected = min(step / 40, math.sqrt(40 / step) if step else 0.0)  # Vaswani et al. 2017, its peak 1
        assert factor(schedule, step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "fields", "changes"),
    [
        ("constant", {}, {"warmup_steps": 9}),
        ("constant", {"warmup_steps": 9}, {"warmup_start_factor": 0.5}),
        ("linear", {"decay_steps": 20}, {"decay_steps": 30}),
        ("linear", {"decay_steps": 20}, {"final_factor": 0.5}),
        ("linear", {"decay_steps": 20}, {"warmup_steps": 5}),
        ("cosine", {"decay_steps": 20}, {"decay_steps": 30}),
        ("cosine", {"decay_steps": 20}, {"final_factor": 0.5}),
        ("cosine", {"decay_steps": 20}, {"warmup_steps": 5}),
        ("exponential", {"gamma": 0.9}, {"gamma": 0.8}),
        ("exponential", {"gamma": 0.9}, {"final_factor": 0.5}),
        ("exponential", {"gamma": 0.9}, {"warmup_steps": 5}),
        ("inverse_square_root", {"decay_steps": 5}, {"decay_steps": 6}),
        ("inverse_square_root", {"decay_steps": 5}, {"final_factor": 0.9}),
        ("inverse_square_root", {"decay_steps": 5}, {"warmup_steps": 5}),
    ],
)
def test_every_field_changes_the_factors(kind: str, fields: dict[str, Any], changes: dict[str, Any]) -> None:
    before = [factor(schedule_of(kind, **fields), step) for step in range(STEPS)]
    after = [factor(schedule_of(kind, **fields | changes), step) for step in range(STEPS)]
    assert before != after
    assert all(0 <= value <= 1 for value in before + after)


@pytest.mark.parametrize(
    ("kind", "fields", "where"),
    [
        ("linear", {}, "decay_steps"),
        ("linear", {"decay_steps": 0}, "decay_steps"),
        ("linear", {"decay_steps": 5, "gamma": 0.5}, "gamma"),
        ("cosine", {"decay_steps": 5, "final_factor": 1.5}, "final_factor"),
        ("exponential", {"gamma": 0.0}, "gamma"),
        ("exponential", {"gamma": 1.01}, "gamma"),
        ("inverse_square_root", {"decay_steps": 5, "final_factor": -0.1}, "final_factor"),
        ("constant", {"warmup_steps": -1}, "warmup_steps"),
        ("constant", {"warmup_start_factor": 2.0}, "warmup_start_factor"),
    ],
)
def test_wrong_fields_are_refused_by_name(kind: str, fields: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        schedule_of(kind, **fields)
    assert where in str(caught.value.errors()[0]["loc"])


def test_each_table_has_its_own_factor() -> None:
    tables = [table.model_dump() for table in small_config().tables]
    tables[1]["learning_rate_schedule"] = {"kind": "linear", "decay_steps": 10}
    config = small_config(tables=tables)
    assert learning_rate_factors(config, 0) == [1.0, 1.0, 1.0, 1.0]
    assert learning_rate_factors(config, 5) == [1.0, 0.5, 1.0, 1.0]


def test_ftrl_takes_no_schedule() -> None:
    table = {
        "name": "t",
        "prefix": 1,
        "dim": 2,
        "optimizer": {"kind": "ftrl", "learning_rate": 0.1},
        "learning_rate_schedule": {"kind": "linear", "decay_steps": 10},
    }
    with pytest.raises(ValidationError, match="ftrl takes no learning_rate_schedule"):
        EmbeddingTable.model_validate(table)
