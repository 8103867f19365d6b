"""Shared dense parameters: whoever steps, the result is that of one optimizer that takes all steps."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from persia_core.errors import ConfigError, EnvironmentProblem
from persia_core.training.group import TrainerGroup
from persia_core.training.shared_dense import SharedDense


class OfThreads(TrainerGroup):
    """Trainers that are threads of this process: they map the file and lock it each for itself."""

    def __init__(self, trainer: int, trainers: int, meeting: threading.Barrier) -> None:
        super().__init__(trainer, trainers, torch.device("cpu"), None)
        object.__setattr__(self, "_meeting", meeting)

    def barrier(self) -> None:
        self._meeting.wait(timeout=20)  # type: ignore[attr-defined]


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01),
    "AdamW with amsgrad": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.1),  # its first step begins a product, which a copy must not
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True),
}


class Trainers:
    """Some trainers with a replica each; what they do together is done by one thread for each."""

    def __init__(self, path: Path, count: int, make: Callable[[int], Any]) -> None:
        meeting = threading.Barrier(count)
        self._pool = ThreadPoolExecutor(count)
        made = [make(trainer) for trainer in range(count)]
        self.models = [model for model, _ in made]
        self.optimizers = [optimizer for _, optimizer in made]

        def share(trainer: int) -> SharedDense:
            return SharedDense(path, OfThreads(trainer, count, meeting), *made[trainer])

        self.shared = list(self._pool.map(share, range(count)))

    def settle(self) -> None:
        list(self._pool.map(SharedDense.settle, self.shared))


def gradients(model: nn.Module, seed: int, missing: int | None = None) -> None:
    generator = torch.Generator().manual_seed(seed)
    for index, parameter in enumerate(model.parameters()):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if index == missing else gradient


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_several_trainers_equal_those_of_one_optimizer(tmp_path: Path, name: str) -> None:
    def make(_: int) -> Any:
        model = network()
        return model, OPTIMIZERS[name](model.parameters())

    alone, optimizer = make(0)
    group = Trainers(tmp_path / "shared", 3, make)
    assert not (tmp_path / "shared").exists(), "nothing is left for a killed job to leave behind"
    for step, trainer in enumerate([2, 0, 0, 1, 2, 1, 0]):
        missing = 1 if step < 3 else None  # a parameter that gets its first gradient later than others
        gradients(group.models[trainer], step, missing)
        group.shared[trainer].step()
        gradients(alone, step, missing)
        optimizer.step()
        for found, expected in zip(group.models[trainer].parameters(), alone.parameters(), strict=True):
            assert torch.equal(found, expected)
    group.settle()
    for model, shared in zip(group.models, group.optimizers, strict=True):
        for found, expected in zip(model.parameters(), alone.parameters(), strict=True):
            assert torch.equal(found, expected)
        for index, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                found = shared.state_dict()["state"][index][slot]
                assert found is value is None or torch.equal(found, value), (index, slot)


def test_restored_optimizer_state_is_gone_on_with(tmp_path: Path) -> None:
    alone = network()
    optimizer = torch.optim.Adam(alone.parameters(), lr=0.1)
    gradients(alone, 0)
    optimizer.step()

    def make(_: int) -> Any:
        return copy.deepcopy((alone, optimizer))

    group = Trainers(tmp_path / "shared", 2, make)
    for step in (1, 2):
        gradients(group.models[step - 1], step)
        group.shared[step - 1].step()
        gradients(alone, step)
        optimizer.step()
    for found, expected in zip(group.models[1].parameters(), alone.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_no_step_is_lost_when_all_step_at_once(tmp_path: Path) -> None:
    def make(_: int) -> Any:
        model = nn.Linear(64, 64, bias=False)
        nn.init.zeros_(model.weight)
        return model, torch.optim.SGD(model.parameters(), lr=1.0)

    group = Trainers(tmp_path / "shared", 4, make)

    def run(trainer: int) -> None:
        for _ in range(50):
            group.models[trainer].weight.grad = torch.ones(64, 64)
            group.shared[trainer].step()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    group.settle()
    for model in group.models:
        assert torch.equal(model.weight, torch.full((64, 64), -200.0))


def test_batch_statistics_are_those_of_trainer_0(tmp_path: Path) -> None:
    def make(trainer: int) -> Any:
        model = network()
        model(torch.full((5, 3), float(trainer)) + torch.arange(5.0)[:, None])
        return model, torch.optim.SGD(model.parameters(), lr=0.1)

    expected = make(0)[0][1].running_mean.clone()
    group = Trainers(tmp_path / "shared", 2, make)
    assert not torch.equal(group.models[1][1].running_mean, expected)
    group.settle()
    for model in group.models:
        assert torch.equal(model[1].running_mean, expected)


def test_an_optimizer_without_plain_steps_is_refused(tmp_path: Path) -> None:
    def make(_: int) -> Any:
        model = network()
        return model, torch.optim.LBFGS(model.parameters())

    with pytest.raises(ConfigError, match="LBFGS cannot be used in mode async"):
        Trainers(tmp_path / "shared", 1, make)


def test_a_trainer_on_another_host_is_told_so(tmp_path: Path) -> None:
    model = network()
    meeting = threading.Barrier(1)  # its trainer 0 is elsewhere, and made the file there
    with pytest.raises(EnvironmentProblem, match="for the trainers of one host"):
        SharedDense(
            tmp_path / "shared",
            OfThreads(1, 2, meeting),
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
        )
