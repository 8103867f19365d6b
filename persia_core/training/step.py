"""One training step of the hybrid algorithm, as one trainer sees it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from persia_core.config import ModelConfig
from persia_core.data.batch import HashedBatch
from persia_core.training.group import TrainerGroup


@dataclass(frozen=True)
class StepResult:
    """`loss` is the sum over this trainer's samples. Without gradients the step was skipped everywhere."""

    loss: float
    gradients: list[NDArray[np.float32]] | None


class TrainingStep:
    """Forward, backward with dense all-reduce, and the dense optimizer.

    The loss is the mean over the global batch. The replicated model averages gradients over K trainers,
    so each trainer's loss is K * (sum over its samples) / (samples of the step); the embedding gradients
    carry that factor K and are applied times `embedding_scale` = 1/K.
    """

    def __init__(
        self, config: ModelConfig, group: TrainerGroup, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self._names = [feature.name for feature in config.id_features]
        self._group = group
        self._model = model
        self._optimizer = optimizer
        self.embedding_scale = 1.0 / group.trainers

    def run(self, data: HashedBatch, pooled: list[NDArray[np.float32]], global_rows: int) -> StepResult:
        """One step on this trainer's share; every trainer calls it for every step, share empty or not.

        A non-finite loss, dense gradient or embedding gradient on any trainer skips the dense and the
        embedding update of the step on all of them.
        """
        device = self._group.device
        leaves = [torch.from_numpy(array).to(device).requires_grad_(True) for array in pooled]
        labels = torch.from_numpy(data.labels).to(device)
        self._optimizer.zero_grad(set_to_none=True)
        logits = self._model(
            torch.from_numpy(data.dense).to(device), dict(zip(self._names, leaves, strict=True))
        )
        loss_sum = binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        (loss_sum * (self._group.trainers / global_rows)).backward()  # type: ignore[no-untyped-call]
        gradients = [
            np.zeros(array.shape, np.float32) if leaf.grad is None else leaf.grad.cpu().numpy()
            for leaf, array in zip(leaves, pooled, strict=True)
        ]
        loss = float(loss_sum.detach())
        finite = bool(np.isfinite(loss)) and self._dense_finite()
        finite = finite and all(bool(np.isfinite(gradient).all()) for gradient in gradients)
        if not self._group.all_true(finite):
            self._optimizer.zero_grad(set_to_none=True)
            return StepResult(loss, None)
        self._optimizer.step()
        return StepResult(loss, gradients)

    def _dense_finite(self) -> bool:
        return all(
            bool(torch.isfinite(parameter.grad).all())
            for parameter in self._model.parameters()
            if parameter.grad is not None
        )
