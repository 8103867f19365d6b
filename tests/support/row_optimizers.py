"""The oracle of training with every optimizer of rows: plain PyTorch for gradients, NumPy for the steps.

An optimizer of rows changes the rows of a batch and no others, where a torch optimizer changes all. So the
steps are taken row by row, in float64, by the formulas of tests/native/optimizers.py; or by torch itself for
tables of which every row is in every batch.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from persia_core.config import ModelConfig
from tests.native.optimizers import Array, initial_state, step
from tests.support.plain import PlainModel


class EveryOptimizer(PlainModel):
    """PlainModel for tables with any optimizer; `in_every_batch` are those that torch's own one trains."""

    def __init__(self, config: ModelConfig, table: pa.Table, in_every_batch: tuple[str, ...]) -> None:
        super().__init__(config, table, optimizers=False)
        self._settings = {entry.name: entry.optimizer.model_dump() for entry in config.tables}
        self._torch = {
            name: _torch_optimizer(self._settings[name], self.embeddings[name]) for name in in_every_batch
        }
        self._state: dict[tuple[str, int], list[Array]] = {}

    def step(self, rows: range) -> float:
        loss = super().step(rows)  # the gradients of the rows stay
        features = {entry.name: [] for entry in self.config.tables}  # type: dict[str, list[str]]
        for feature in self.config.id_features:
            features[feature.table].append(feature.name)
        for name, of in features.items():
            weight = self.embeddings[name].weight
            if weight.grad is None:
                raise AssertionError(f"table {name} has no gradients")
            touched = {id_ for feature in of for row in rows for id_ in self.bags[feature][row]}
            if name in self._torch:
                assert touched == set(self.ids[name]), f"table {name}: a row is not in the batch"
                self._torch[name].step()
            else:
                self._step_rows(name, weight.detach(), weight.grad, touched)
            weight.grad = None
        return loss

    def _step_rows(self, name: str, weight: torch.Tensor, gradient: torch.Tensor, touched: set[int]) -> None:
        settings, dim = self._settings[name], weight.shape[1]
        for index, id_ in enumerate(self.ids[name]):
            if id_ not in touched:
                continue
            state = self._state.get((name, id_)) or initial_state(settings, dim)
            w, g = (tensor[index].numpy().astype(np.float64) for tensor in (weight, gradient))
            after, self._state[name, id_] = step(settings, w, state, g)
            weight[index] = torch.from_numpy(after.astype(np.float32))


def _torch_optimizer(settings: dict[str, Any], embedding: nn.EmbeddingBag) -> torch.optim.Optimizer:
    rate = settings["learning_rate"]
    match settings["kind"]:
        case "sgd":
            momentum, decay = settings["momentum"], settings["weight_decay"]
            return torch.optim.SGD(embedding.parameters(), rate, momentum, weight_decay=decay)
        case "adagrad":
            start, epsilon = settings["initial_accumulator"], settings["epsilon"]
            return torch.optim.Adagrad(
                embedding.parameters(), rate, initial_accumulator_value=start, eps=epsilon
            )
        case "adam":
            betas = settings["beta1"], settings["beta2"]
            return torch.optim.Adam(embedding.parameters(), rate, betas, settings["epsilon"])
    raise ValueError(f"torch has no {settings['kind']}")
