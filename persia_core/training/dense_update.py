"""How the trainers' dense gradients become one network: in lock-step, or each trainer as it comes."""

from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from persia_core.config import ModelConfig
from persia_core.launch.segments import shared_memory
from persia_core.training.dense import DenseTraining
from persia_core.training.group import TrainerGroup
from persia_core.training.shared_dense import SharedDense

SHARED_DENSE = "shared-dense"  # there only while the trainers open it


class DenseUpdate(Protocol):
    """What a training step needs to know of the other trainers' dense replicas."""

    averages: bool  # backward leaves the mean of all trainers' gradients, and all skip a step together

    def replicate(self, network: nn.Module) -> nn.Module:
        """What forward is to be called on."""

    def step(self) -> None:
        """Change the dense parameters by the gradients that backward has left."""

    def settle(self) -> None:
        """Make all replicas alike, once all trainers are done. Every trainer calls it."""


class Lockstep:
    """Modes sync and hybrid: gradients are averaged by all-reduce, overlapped with backward."""

    averages = True

    def __init__(
        self, group: TrainerGroup, optimizer: torch.optim.Optimizer, reproducible: bool = False
    ) -> None:
        self._group = group
        self._optimizer = optimizer
        self._reproducible = reproducible

    def replicate(self, network: nn.Module) -> nn.Module:
        if self._group.trainers == 1:
            return network
        # After its first step it would arrange its buckets anew, and so add up gradients of three trainers
        # in another order. A run that goes on from a cut has its first step later. With this it never does.
        return DistributedDataParallel(
            network,
            gradient_as_bucket_view=True,
            find_unused_parameters=self._reproducible and self._group.trainers > 2,
        )

    def step(self) -> None:
        self._optimizer.step()

    def settle(self) -> None:
        """Nothing to do: equal replicas have taken equal steps."""


class Independent:
    """Mode async: every trainer changes the shared parameters by its own gradients, without waiting."""

    averages = False

    def __init__(self, shared: SharedDense) -> None:
        self._shared = shared

    def replicate(self, network: nn.Module) -> nn.Module:
        return network

    def step(self) -> None:
        self._shared.step()

    def settle(self) -> None:
        self._shared.settle()


def dense_update(
    config: ModelConfig,
    group: TrainerGroup,
    dense: DenseTraining,
    run_dir: Path,
) -> DenseUpdate:
    """The way of `training.mode`. Every trainer calls it at the same time; see SharedDense for errors."""
    if config.training.mode != "async":
        return Lockstep(group, dense.optimizer, config.training.reproducible)
    path = shared_memory(run_dir) / SHARED_DENSE
    return Independent(SharedDense(path, group, dense.model, dense.optimizer))
