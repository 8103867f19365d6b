"""Dense schedules are torch's: the same rates as torch alone, also when stopped, restored and continued."""

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from persia_core.config.training import DenseOptimizer, DenseSchedule
from persia_core.errors import ConfigError
from persia_core.training.dense import build_optimizer
from persia_core.training.dense_schedule import Schedule, available
from tests.support.small_config import small_config

SGD = DenseOptimizer(name="SGD", args={"lr": 0.5, "momentum": 0.8})
STEPS = 30

# Name, its arguments, and the same schedule as one writes it with torch.
WARMUP_THEN_COSINE = {
    "schedulers": [
        {"name": "LinearLR", "args": {"start_factor": 0.1, "total_iters": 5}},
        {"name": "CosineAnnealingLR", "args": {"T_max": 20}},
    ],
    "milestones": [5],
}
CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("LinearLR", {"start_factor": 0.1, "total_iters": 8}, None),
    ("CosineAnnealingLR", {"T_max": 12, "eta_min": 0.01}, None),
    ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2}, None),
    ("MultiStepLR", {"milestones": [3, 9, 9, 20], "gamma": 0.5}, None),
    ("ExponentialLR", {"gamma": 0.9}, None),
    ("PolynomialLR", {"total_iters": 25, "power": 2.0}, None),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.6, "step_size_up": 4}, None),
    ("OneCycleLR", {"max_lr": 0.7, "total_steps": 40}, None),
    (
        "SequentialLR",
        WARMUP_THEN_COSINE,
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=5),
                lr_scheduler.CosineAnnealingLR(o, T_max=20),
            ],
            [5],
        ),
    ),
    (
        "ChainedScheduler",
        {"schedulers": [{"name": "StepLR", "args": {"step_size": 7}}, WARMUP_THEN_COSINE["schedulers"][0]]},
        lambda o: lr_scheduler.ChainedScheduler(
            [
                lr_scheduler.StepLR(o, step_size=7),
                lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=5),
            ]
        ),
    ),
]


def optimizer() -> torch.optim.SGD:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    return torch.optim.SGD([parameter], **SGD.args)


def rates(found: torch.optim.Optimizer) -> tuple[float, float]:
    return found.param_groups[0]["lr"], found.param_groups[0]["momentum"]


@pytest.mark.parametrize(("name", "args", "plainly"), CASES, ids=[name for name, _, _ in CASES])
@pytest.mark.parametrize("stop", [None, 0, 6, 11])
def test_rates_equal_those_of_torch_alone(
    name: str, args: dict[str, Any], plainly: Any, stop: int | None
) -> None:
    alone = optimizer()
    scheduler = plainly(alone) if plainly else getattr(lr_scheduler, name)(alone, **args)
    ours = optimizer()
    wanted = DenseSchedule(name=name, args=args)
    schedule = Schedule(wanted, ours, SGD)
    seen = set()
    for step in range(STEPS):
        if step == stop:
            saved = json.loads(json.dumps(schedule.state_dict()))
            ours = optimizer()
            schedule = Schedule(wanted, ours, SGD)
            schedule.load_state_dict(saved)
        assert rates(ours) == rates(alone), step
        seen.add(rates(ours))
        for each in (alone, ours):
            each.step()
        scheduler.step()
        schedule.after_day()
        schedule.after_step()
    assert len(seen) > 2, "the schedule did something"


def test_every_day_is_a_step_only_at_the_end_of_a_partition() -> None:
    ours = optimizer()
    schedule = Schedule(DenseSchedule(name="ExponentialLR", args={"gamma": 0.5}, every="day"), ours, SGD)
    for _ in range(3):
        ours.step()
        schedule.after_step()
    assert rates(ours)[0] == 0.5
    schedule.after_day()
    assert rates(ours)[0] == 0.25


@pytest.mark.parametrize(
    ("wanted", "made_by"),
    [
        (DenseSchedule(name="ExponentialLR", args={"gamma": 0.9}), SGD),
        (DenseSchedule(name="StepLR", args={"step_size": 2}), SGD),
        (
            DenseSchedule(name="ExponentialLR", args={"gamma": 0.5}),
            DenseOptimizer(name="SGD", args={"lr": 0.25}),
        ),
    ],
)
def test_a_schedule_that_was_configured_otherwise_begins_anew(
    wanted: DenseSchedule, made_by: DenseOptimizer
) -> None:
    first = optimizer()
    schedule = Schedule(DenseSchedule(name="ExponentialLR", args={"gamma": 0.5}), first, SGD)
    first.step()
    schedule.after_step()
    second = optimizer()
    changed = Schedule(wanted, second, made_by)
    changed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert rates(second)[0] == 0.5


@pytest.mark.parametrize(
    ("wanted", "what", "remedy"),
    [
        ({"name": "CosineLR"}, "dense_schedule.name CosineLR is not in torch", "CosineAnnealingLR"),
        ({"name": "LambdaLR"}, "LambdaLR: it takes a function", "LinearLR"),
        ({"name": "ReduceLROnPlateau"}, "it waits for a metric", "StepLR"),
        ({"name": "CosineAnnealingLR", "args": {"T_maximum": 3}}, "takes no T_maximum", "T_max, eta_min"),
        ({"name": "CosineAnnealingLR"}, "CosineAnnealingLR: .*T_max", "T_max, eta_min"),
        (
            {"name": "LinearLR", "args": {"start_factor": 2.0}},
            "LinearLR: .*greater than 0 and less or equal to 1",
            "start_factor",
        ),
        ({"name": "StepLR", "args": {"optimizer": 1, "step_size": 2}}, "takes no optimizer", "step_size"),
        (
            {"name": "SequentialLR", "args": {"schedulers": ["StepLR"], "milestones": []}},
            r"args\.schedulers\[0\] is 'StepLR'",
            "name: ",
        ),
        (
            {"name": "ChainedScheduler", "args": {"schedulers": [{"name": "StepLR", "args": {"size": 2}}]}},
            r"args\.schedulers\[0\]\.args: StepLR takes no size",
            "step_size",
        ),
    ],
)
def test_what_torch_does_not_know_is_refused_with_what_there_is(
    wanted: dict[str, Any], what: str, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        Schedule(DenseSchedule(**wanted), optimizer(), SGD)
    assert remedy in caught.value.remedy


def test_a_schedule_with_an_end_says_so_when_it_is_passed() -> None:
    ours = optimizer()
    schedule = Schedule(DenseSchedule(name="OneCycleLR", args={"max_lr": 1.0, "total_steps": 3}), ours, SGD)
    with pytest.raises(ConfigError, match=r"OneCycleLR.*number of total steps is 3"):
        for _ in range(4):
            ours.step()
            schedule.after_step()


def test_what_is_available_is_buildable_from_yaml() -> None:
    assert {"LinearLR", "OneCycleLR", "SequentialLR"} <= set(available())
    assert not {"LambdaLR", "LRScheduler", "Optimizer"} & set(available())


@pytest.mark.parametrize(
    ("wanted", "what", "remedy"),
    [
        ({"name": "Adamm"}, "'Adamm' is no optimizer", "Adam, AdamW"),
        ({"name": "LBFGS"}, "'LBFGS' is no optimizer", "SGD"),
        ({"name": "SGD", "args": {"rate": 0.1}}, "SGD: .*rate", "lr, momentum"),
        ({"name": "SGD", "args": {"lr": -1.0}}, "SGD: Invalid learning rate", "lr, momentum"),
    ],
)
def test_an_optimizer_that_torch_does_not_know_is_refused_with_what_there_is(
    wanted: dict[str, Any], what: str, remedy: str
) -> None:
    training = {"model": "persia_core.models.dlrm:DLRM", "dense_optimizer": wanted}
    with pytest.raises(ConfigError, match=what) as caught:
        build_optimizer(small_config(training=training), nn.Linear(2, 1))
    assert remedy in caught.value.remedy
