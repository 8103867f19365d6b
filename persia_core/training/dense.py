"""The dense network: built from its import path, replicated, synchronised by all-reduce."""

import hashlib
import importlib
import re
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from persia_core.config import ModelConfig
from persia_core.errors import ConfigError
from persia_core.training.group import TrainerGroup

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def model_class(path: str) -> type[nn.Module]:
    """The torch.nn.Module named by "package.module:Class". Raises ConfigError saying what is wrong."""
    if not _IMPORT_PATH.fullmatch(path):
        raise ConfigError(f"training.model {path!r} is no import path", "write package.module:Class")
    module_name, class_name = path.split(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"training.model {path}: {error}",
            "check the spelling and that the package is installed where the trainers run",
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(
            f"training.model {path} is no torch.nn.Module", "name a subclass of torch.nn.Module"
        )
    return found


def build_model(config: ModelConfig) -> nn.Module:
    """The dense network with its initial weights, a function of the configuration and its seed."""
    dims = {feature.name: config.table(feature.table).dim for feature in config.id_features}
    torch.manual_seed(config.training.seed)
    try:
        return model_class(config.training.model)(
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


def replicate(model: nn.Module, group: TrainerGroup) -> nn.Module:
    """The model wrapped so that backward averages dense gradients over trainers, overlapped with it."""
    if group.trainers == 1:
        return model
    devices = [group.device.index] if group.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def seed_trainer(config: ModelConfig, ds: str, trainer: int) -> None:
    """Seed this trainer's random generator (dropout): a function of (seed, partition, trainer)."""
    text = f"{config.training.seed}/{ds}/{trainer}".encode()
    torch.manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))
