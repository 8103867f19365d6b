"""Mode async: one copy of the dense parameters for all trainers of a host, changed by each as it comes.

A parameter server in shared memory (Dean et al. 2012, "Downpour SGD", with every gradient pushed and the
parameters fetched at once). See docs/decisions/0013-async-is-a-parameter-server-in-shared-memory.md.
"""

import contextlib
import copy
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from persia_core.errors import ConfigError, EnvironmentProblem
from persia_core.training.group import TrainerGroup

_ALIGNMENT = 64  # bytes: a cache line

Slots = dict[str, Any]  # of one parameter: what the optimizer keeps of it, by name


class SharedDense:
    """Parameters and optimizer state in a file that the trainers of a host map into their memory.

    A trainer computes with a replica of its own. `step` takes the lock of the file, applies the trainer's
    gradients to the shared parameters with the shared optimizer state, and leaves the result in the replica.
    Nobody waits for anybody's batch: only for the lock, while somebody else's step is applied.
    """

    def __init__(
        self, path: Path, group: TrainerGroup, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Every trainer calls it at the same time. `path` must not exist, and is gone afterwards.

        Raises ConfigError if the optimizer keeps state that is no tensor, EnvironmentProblem if a trainer
        is on another host than trainer 0.
        """
        self._group = group
        self._optimizer = optimizer
        self._parameters: list[Tensor] = [p for g in optimizer.param_groups for p in g["params"]]
        self._buffers = list(model.buffers())
        self._slots = _slots_of(model, optimizer)
        known = torch.zeros(len(self._parameters), dtype=torch.int64)
        pieces = [known, *self._parameters, *self._buffers]
        pieces += [slots[name] for slots in self._slots for name in _tensors(slots)]
        shared, self._file = _map_together(path, group, pieces)
        self._known = shared.pop(0)  # whose optimizer state is there: most optimizers make it at a first step
        self._shared = [shared.pop(0) for _ in self._parameters]
        self._shared_buffers = [shared.pop(0) for _ in self._buffers]
        self._shared_slots = [
            {name: shared.pop(0) if name in _tensors(slots) else value for name, value in slots.items()}
            for slots in self._slots
        ]
        self._unbound = set(range(len(self._parameters)))
        if group.trainer == 0:
            self._write(self._shared, self._parameters)
            self._publish_state()
        group.barrier()
        self.fetch()

    def step(self) -> None:
        """Apply the gradients in the replica, and fetch what the parameters are then."""
        with self._locked():
            self._write(self._parameters, self._shared)
            self._adopt_state()
            self._optimizer.step()
            self._publish_state()
            self._write(self._shared, self._parameters)

    def fetch(self) -> None:
        """Put the shared parameters and optimizer state into the replica."""
        with self._locked():
            self._write(self._parameters, self._shared)
            self._adopt_state()

    def settle(self) -> None:
        """Once all trainers are done: every replica alike, with the buffers (batch statistics) of trainer 0.

        Every trainer calls it.
        """
        if self._group.trainer == 0:
            self._write(self._shared_buffers, self._buffers)
        self._group.barrier()
        self.fetch()
        self._write(self._buffers, self._shared_buffers)

    @staticmethod
    def _write(targets: list[Tensor], sources: list[Tensor]) -> None:
        with torch.no_grad():
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source)

    def _adopt_state(self) -> None:
        """Bind the state that another trainer has published."""
        for index in sorted(self._unbound):
            if self._known[index]:
                self._optimizer.state[self._parameters[index]] = dict(self._shared_slots[index])
                self._unbound.discard(index)

    def _publish_state(self) -> None:
        """Move what the optimizer has made (or replaced) since into the shared memory."""
        for index, parameter in enumerate(self._parameters):
            state = self._optimizer.state.get(parameter)
            if not state:
                continue
            for name in _tensors(self._slots[index]):
                shared = self._shared_slots[index][name]
                if state[name] is not shared:
                    shared.copy_(state[name])
                    state[name] = shared
            self._known[index] = 1
            self._unbound.discard(index)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # The kernel lets go of the lock of a trainer that dies.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _tensors(slots: Slots) -> list[str]:
    return [name for name, value in slots.items() if isinstance(value, Tensor)]


def _slots_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Slots]:
    """What the optimizer keeps of each parameter, learned from a step of a copy; values mean nothing."""
    _, trial = copy.deepcopy((model, optimizer))
    parameters = [p for group in trial.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    name = type(optimizer).__name__
    try:
        trial.step()
    except (TypeError, RuntimeError) as error:
        raise ConfigError(
            f"training.dense_optimizer {name} cannot be used in mode async: {error}", "use e.g. Adam or SGD"
        ) from error
    found = [dict(trial.state.get(parameter, {})) for parameter in parameters]
    for slots in found:
        for slot, value in slots.items():
            if value is not None and not isinstance(value, Tensor):
                raise ConfigError(
                    f"training.dense_optimizer {name} keeps {slot} outside tensors, where trainers cannot "
                    "share it in mode async",
                    "use e.g. Adam or SGD",
                )
    return found


def _map_together(path: Path, group: TrainerGroup, pieces: list[Tensor]) -> tuple[list[Tensor], int]:
    """Zeros like `pieces` in shared memory, and the open file behind them."""
    offsets, size = [], 0
    for piece in pieces:
        offsets.append(size)
        size += -(-piece.nbytes // _ALIGNMENT) * _ALIGNMENT
    if group.trainer == 0:
        with path.open("xb") as made:
            made.truncate(size)
    group.barrier()
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError as error:
        raise EnvironmentProblem(
            f"trainer {group.trainer} does not see {path} of trainer 0",
            "training.mode async is for the trainers of one host; use mode: hybrid on several",
        ) from error
    memory = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
    group.barrier()
    if group.trainer == 0:
        path.unlink()  # the memory lives as long as it is mapped, and no longer: nothing is left behind
    mapped = [
        memory[offset : offset + piece.nbytes].view(piece.dtype).view(piece.shape)
        for offset, piece in zip(offsets, pieces, strict=True)
    ]
    return mapped, file
