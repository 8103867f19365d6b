"""The dense network and its optimizer, built by name."""

import hashlib
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from persia_core.config import ModelConfig
from persia_core.config.training import LossScaling
from persia_core.errors import ConfigError
from persia_core.models.by_path import model_class
from persia_core.training.dense_schedule import Schedule
from persia_core.training.loss_scale import LossScale


def network_class(config: ModelConfig) -> type[nn.Module]:
    """The class that `training.model` names. Raises ConfigError saying what is wrong with it."""
    path = config.training.model
    try:
        return model_class(path)
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError(
            f"training.model {path}: {error}",
            "name a torch.nn.Module as package.module:Class, installed where the trainers run",
        ) from error


def build_model(config: ModelConfig) -> nn.Module:
    """The dense network with its initial weights, a function of the configuration and its seed."""
    dims = {feature.name: config.table(feature.table).dim for feature in config.id_features}
    torch.manual_seed(config.training.seed)
    try:
        return network_class(config)(
            dense_dim=len(config.dense_features), embedding_dims=dims, **config.training.model_args
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"training.model {config.training.model} cannot be built: {error}",
            "check training.model_args against the arguments of the class",
        ) from error


def build_optimizer(config: ModelConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The dense optimizer by its name in torch.optim. Raises ConfigError for unknown names or arguments."""
    wanted = config.training.dense_optimizer
    found: Any = getattr(torch.optim, wanted.name, None)
    if wanted.name not in available_optimizers():
        raise ConfigError(
            f"training.dense_optimizer.name {wanted.name!r} is no optimizer for dense gradients",
            f"use one of {', '.join(available_optimizers())}",
        )
    try:
        optimizer: torch.optim.Optimizer = found(model.parameters(), **wanted.args)
    except (TypeError, ValueError) as error:
        takes = ", ".join(list(inspect.signature(found).parameters)[1:])
        raise ConfigError(f"training.dense_optimizer {wanted.name}: {error}", f"it takes {takes}") from error
    return optimizer


def available_optimizers() -> list[str]:
    """Names that `training.dense_optimizer.name` may have."""
    unfit = ("Optimizer", "LBFGS", "SparseAdam")  # the base; wants a closure; wants sparse gradients
    return sorted(
        name
        for name, found in vars(torch.optim).items()
        if isinstance(found, type) and issubclass(found, torch.optim.Optimizer) and name not in unfit
    )


@dataclass
class DenseTraining:
    """The dense network and everything that training it changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_scale: LossScale | None  # with precision float16
    schedule: Schedule | None

    @staticmethod
    def build(config: ModelConfig, device: torch.device) -> "DenseTraining":
        """As a cold start begins. Raises ConfigError for names or arguments that do not fit."""
        model = build_model(config).to(device)
        optimizer = build_optimizer(config, model)
        training = config.training
        scale = schedule = None
        if training.precision == "float16":
            scale = LossScale(training.loss_scaling or LossScaling())
        if training.dense_schedule is not None:
            schedule = Schedule(training.dense_schedule, optimizer, training.dense_optimizer)
        return DenseTraining(model, optimizer, scale, schedule)

    def state_dict(self) -> dict[str, Any]:
        """For state.json, beside what is saved of model and optimizer."""
        parts = {"loss_scale": self.loss_scale, "dense_schedule": self.schedule}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint whose model and optimizer are restored already."""
        if self.loss_scale is not None and "loss_scale" in state:
            self.loss_scale.load_state_dict(state["loss_scale"])
        if self.schedule is not None and "dense_schedule" in state:
            self.schedule.load_state_dict(state["dense_schedule"])


def seed_trainer(config: ModelConfig, ds: str, trainer: int, step: int = 0) -> None:
    """Seed this trainer's random generator (dropout): a function of (seed, partition, trainer, step).

    `step` is the one of the run that it begins with.
    """
    text = f"{config.training.seed}/{ds}/{trainer}" + (f"/{step}" if step else "")
    torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
