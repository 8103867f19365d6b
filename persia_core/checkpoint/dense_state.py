"""Dense weights and dense optimizer state as safetensors and JSON; no pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from persia_core.checkpoint.layout import DENSE, OPTIMIZER, STATE
from persia_core.errors import ConfigError, Corrupt


def save_dense(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Write dense.safetensors, optimizer.safetensors and state.json (which also holds `state`)."""
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()},
        directory / DENSE,
    )
    described = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, slots in described["state"].items():
        for slot, value in slots.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{slot}"] = value.detach().cpu().contiguous()
            else:
                scalars.setdefault(str(index), {})[slot] = value
    save_file(tensors, directory / OPTIMIZER)
    document = {
        "optimizer": {
            "name": type(optimizer).__name__,
            "param_groups": described["param_groups"],
            "scalars": scalars,
        },
        **state,
    }
    (directory / STATE).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def check_dense_fits(directory: Path, model: nn.Module) -> None:
    """Raise ConfigError naming the first tensor in which the saved network differs from `model`."""
    path = directory / DENSE
    try:
        with safe_open(path, framework="pt") as file:
            saved = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise Corrupt(f"{path} is no safetensors file: {error}", "restore it from a copy") from error
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in [*wanted, *saved]:
        if saved.get(name) != wanted.get(name):
            raise ConfigError(
                f"the dense network of {path} has another shape than training.model makes: {name} is "
                f"{saved.get(name, 'not there')} in the file, {wanted.get(name, 'not there')} in the model",
                "keep training.model, its arguments and the features as they were, or keep the embedding "
                "rows alone and begin with a new network: persia train --cold-start-dense",
            )


def read_state(directory: Path) -> dict[str, Any]:
    """state.json of a checkpoint."""
    document: dict[str, Any] = json.loads((directory / STATE).read_text())
    return document


def load_dense(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put saved weights and optimizer state in place; returns the rest of state.json.

    The optimizer's hyperparameters stay those of the configuration, only its state is restored. When
    the configuration names another optimizer than the checkpoint, it starts with fresh state.
    Raises Corrupt when the weights do not fit the model.
    """
    try:
        model.load_state_dict(load_file(directory / DENSE))
    except RuntimeError as error:
        raise Corrupt(
            f"{directory / DENSE} does not fit the model: {error}",
            "keep training.model and model_args as they were, or start again with --cold-start",
        ) from error
    document = read_state(directory)
    saved = document.pop("optimizer")
    if saved["name"] == type(optimizer).__name__:
        restored: dict[int, dict[str, Any]] = {int(i): dict(slots) for i, slots in saved["scalars"].items()}
        for key, tensor in load_file(directory / OPTIMIZER).items():
            index, slot = key.split(".", 1)
            restored.setdefault(int(index), {})[slot] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": restored, "param_groups": groups})
    return document
