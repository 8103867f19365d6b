"""One training step of the hybrid algorithm, as one trainer sees it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from persia_core.config import ModelConfig
from persia_core.data.batch import HashedBatch
from persia_core.training.dense_update import DenseUpdate
from persia_core.training.group import TrainerGroup


@dataclass(frozen=True)
class StepResult:
    """`loss` is the sum over this trainer's samples. Without gradients the step is to be skipped."""

    loss: float
    gradients: list[NDArray[np.float32]] | None


class TrainingStep:
    """Forward, backward and the change of the dense parameters.

    The loss is the mean over the global batch. Where backward averages dense gradients over K trainers,
    each trainer's loss is K * (sum over its samples) / (samples of the step), and the embedding gradients
    carry that factor K and are applied times `embedding_scale` = 1/K. In mode async each trainer's loss is
    (sum over its samples) / (samples of the step): the gradients of K trainers, applied one after another,
    add up to that of the step, for rows and dense parameters alike.
    """

    def __init__(
        self, config: ModelConfig, group: TrainerGroup, model: nn.Module, dense: DenseUpdate
    ) -> None:
        self._names = [feature.name for feature in config.id_features]
        self._group = group
        self._dense = dense
        self._model = dense.replicate(model)
        self._factor = group.trainers if dense.averages else 1
        self.embedding_scale = 1.0 / self._factor

    def run(self, data: HashedBatch, pooled: list[NDArray[np.float32]], global_rows: int) -> StepResult:
        """The gradients of this trainer's share; every trainer calls it for every step, share empty or not.

        A non-finite loss, dense gradient or embedding gradient skips the dense and the embedding update of
        the step: on all trainers if it happens on one, in mode async on that one alone.
        """
        device = self._group.device
        leaves = [torch.from_numpy(array).to(device).requires_grad_(True) for array in pooled]
        labels = torch.from_numpy(data.labels).to(device)
        self._model.zero_grad(set_to_none=True)
        logits = self._model(
            torch.from_numpy(data.dense).to(device), dict(zip(self._names, leaves, strict=True))
        )
        loss_sum = binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        (loss_sum * (self._factor / global_rows)).backward()  # type: ignore[no-untyped-call]
        gradients = [
            np.zeros(array.shape, np.float32) if leaf.grad is None else leaf.grad.cpu().numpy()
            for leaf, array in zip(leaves, pooled, strict=True)
        ]
        loss = float(loss_sum.detach())
        finite = bool(np.isfinite(loss)) and self._dense_finite()
        finite = finite and all(bool(np.isfinite(gradient).all()) for gradient in gradients)
        if not (self._group.all_true(finite) if self._dense.averages else finite):
            return StepResult(loss, None)
        return StepResult(loss, gradients)

    def apply(self) -> None:
        """Change the dense parameters by the gradients of the last `run`, which was not skipped."""
        self._dense.step()

    def _dense_finite(self) -> bool:
        return all(
            bool(torch.isfinite(parameter.grad).all())
            for parameter in self._model.parameters()
            if parameter.grad is not None
        )
