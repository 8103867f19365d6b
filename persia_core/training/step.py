"""One training step of the hybrid algorithm, as one trainer sees it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils import get_total_norm

from persia_core.config import ModelConfig
from persia_core.training.account import NON_FINITE, OVERFLOW
from persia_core.training.dense import DenseTraining
from persia_core.training.dense_update import DenseUpdate
from persia_core.training.group import TrainerGroup
from persia_core.training.network import TrainedNetwork
from persia_core.training.staging import Inputs, Staging


@dataclass(frozen=True)
class StepResult:
    """`loss` is the sum over this trainer's samples, of each times its weight.

    `gradients` are those of the features' activations, to be applied times `scale`. With a reason in
    `skip` they are not to be used, and `apply` is not to be called.
    """

    loss: float
    gradients: list[NDArray[np.float32]]
    scale: float
    skip: str | None


class TrainingStep:
    """Forward, backward and the change of the dense parameters.

    The loss is the mean over the global batch, weighted if samples have weights. Where backward averages
    dense gradients over K trainers, each trainer's loss is K * (weighted sum over its samples) / (weight of
    the step), and the embedding gradients carry that factor K and are applied times 1/K. In mode async each
    trainer's loss is (weighted sum over its samples) / (weight of the step): the gradients of K trainers,
    applied one after another, add up to that of the step, for rows and dense parameters alike. A step of
    weight 0 has gradients of 0.
    """

    def __init__(
        self,
        config: ModelConfig,
        group: TrainerGroup,
        dense: DenseTraining,
        update: DenseUpdate,
        staging: Staging,
    ) -> None:
        names = [feature.name for feature in config.id_features]
        self.network = TrainedNetwork(dense.model, names, config.training.precision).to(group.device)
        self._replica = update.replicate(self.network)
        self._update = update
        self.optimizer = dense.optimizer
        self._factor = group.trainers if update.averages else 1
        self._loss_scale = dense.loss_scale
        self._staging = staging

    def run(self, inputs: Inputs, total_weight: float) -> StepResult:
        """The gradients of this trainer's share; every trainer calls it for every step, share empty or not.

        `total_weight`: of all samples of the step, over all trainers (their number if they have no weights).
        A non-finite loss, dense gradient or embedding gradient skips the dense and the embedding update of
        the step: on all trainers if it happens on one, in mode async on that one alone. The loss scale
        follows.
        """
        self._staging.use(inputs)
        self._replica.zero_grad(set_to_none=True)
        logits = self._replica(inputs.dense, inputs.buffers, inputs.places, inputs.masks)
        loss = binary_cross_entropy_with_logits(logits, inputs.labels, weight=inputs.weights, reduction="sum")
        self.network.loss_is_finite = torch.isfinite(loss.detach())
        scale = 1.0 if self._loss_scale is None else self._loss_scale.scale
        share = scale * self._factor / total_weight if total_weight > 0.0 else 0.0
        (loss * share).backward()  # type: ignore[no-untyped-call]
        report = torch.stack([loss.detach(), self._norm(), *self.network.outcome()])
        gradients, numbers = self._staging.to_host(self.network.gradients, inputs.places, report)
        loss_sum, norm, bad_gradient, bad_loss = numbers
        overflow = bool(bad_gradient) or not math.isfinite(norm)
        skip = self._reason(overflow, bool(bad_loss))
        if self._loss_scale is not None:
            self._loss_scale.update(skip is not None)
            if skip is None:
                self._unscale(scale)
        return StepResult(loss_sum, gradients, 1.0 / (scale * self._factor), skip)

    def apply(self) -> None:
        """Change the dense parameters by the gradients of the last `run`, which was not skipped."""
        self._update.step()

    def _reason(self, overflow: bool, bad_loss: bool) -> str | None:
        if not (overflow or bad_loss):
            return None
        scaled = self._loss_scale is not None and self._loss_scale.explains_overflow
        return OVERFLOW if scaled and not bad_loss else NON_FINITE

    def _unscale(self, scale: float) -> None:
        for parameter in self.network.network.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1.0 / scale)

    def _norm(self) -> torch.Tensor:
        """Of the dense gradients: not finite if one of them is not. The same on all averaging trainers."""
        dense = self.network.network.parameters()
        return get_total_norm([each.grad for each in dense if each.grad is not None])
