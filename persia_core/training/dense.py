"""The dense network and its optimizer, built by name."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from persia_core.config import ModelConfig
from persia_core.config.training import LossScaling
from persia_core.errors import ConfigError
from persia_core.models.by_path import model_class
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
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ConfigError(
            f"training.dense_optimizer.name {wanted.name!r} is not in torch.optim", "use e.g. Adam or SGD"
        )
    try:
        optimizer: torch.optim.Optimizer = found(model.parameters(), **wanted.args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"training.dense_optimizer {wanted.name}: {error}", "correct its args") from error
    return optimizer


@dataclass
class DenseTraining:
    """The dense network and everything that training it changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_scale: LossScale | None  # with precision float16

    @staticmethod
    def build(config: ModelConfig, device: torch.device) -> "DenseTraining":
        """As a cold start begins. Raises ConfigError for names or arguments that do not fit."""
        model = build_model(config).to(device)
        scaled = config.training.precision == "float16"
        return DenseTraining(
            model,
            build_optimizer(config, model),
            LossScale(config.training.loss_scaling or LossScaling()) if scaled else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """For state.json, beside what is saved of model and optimizer."""
        return {} if self.loss_scale is None else {"loss_scale": self.loss_scale.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint whose model and optimizer are restored already."""
        if self.loss_scale is not None and "loss_scale" in state:
            self.loss_scale.load_state_dict(state["loss_scale"])


def seed_trainer(config: ModelConfig, ds: str, trainer: int) -> None:
    """Seed this trainer's random generator (dropout): a function of (seed, partition, trainer)."""
    text = f"{config.training.seed}/{ds}/{trainer}".encode()
    torch.manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))
