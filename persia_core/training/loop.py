"""The loop over the batches of a partition."""

import logging
from functools import partial
from typing import Any

from persia_core.config import ModelConfig
from persia_core.embedding.interface import Pipeline
from persia_core.embedding.schedule import learning_rate_factors
from persia_core.embedding.tables import table_indices
from persia_core.errors import Diverged
from persia_core.phases import Phase, begin
from persia_core.training.account import Account
from persia_core.training.batches import TrainerBatch
from persia_core.training.dense import DenseTraining
from persia_core.training.dense_update import DenseUpdate
from persia_core.training.group import TrainerGroup
from persia_core.training.order import share
from persia_core.training.staging import staging_for
from persia_core.training.step import TrainingStep
from persia_core.training.training_log import TrainingLog

log = logging.getLogger(__name__)


class TrainingLoop:
    """Trains on one stretch of batches after another; between them nothing is in flight.

    What it keeps from stretch to stretch is what a fresh process would make anew.
    """

    def __init__(
        self,
        config: ModelConfig,
        group: TrainerGroup,
        dense: DenseTraining,
        update: DenseUpdate,
        account: Account,
        training_log: TrainingLog,
        first_step: int,
    ) -> None:
        """`first_step` is the step of the model that the first batch of the partition is: schedules count on
        from it. `account` and `training_log` are filled.
        """
        self._config = config
        self._group = group
        self._dense = dense
        self._update = update
        self._account = account
        self._log = training_log
        self._first_step = first_step
        dense.model.train()
        self._staging = staging_for(group.device, table_indices(config), config.training.staleness)
        self._step = TrainingStep(config, group, dense, update, self._staging)

    def train(self, batches: Pipeline[TrainerBatch]) -> None:
        """Train on all batches, then wait until every gradient has been acknowledged.

        Raises Diverged as soon as more samples were skipped than the configuration allows: on every trainer
        alike, but in mode async on the one that did.
        """
        config, account = self._config, self._account
        with batches as pipeline:
            for ready, inputs in self._staging.ahead(pipeline):
                number, rows = ready.batch.step.number, ready.batch.step.rows
                samples, outstanding = rows.size, pipeline.outstanding
                result = self._step.run(inputs, ready.batch.total_weight)
                account.ids_truncated += ready.lookup.truncated_ids
                if not self._update.averages:  # each trainer skips, and accounts for, its own samples
                    rows = share(rows, self._group.trainer, self._group.trainers)
                if result.skip is not None:
                    pipeline.discard(ready)
                    account.skipped(rows, result.skip)
                    log.warning("step %d skipped: %s", number, result.skip)
                    if account.too_many_skipped(config.training.max_skipped_share):
                        raise _diverged(config, account)
                else:
                    factors = learning_rate_factors(config, self._first_step + number)
                    # Before the dense step: the gradients are on their way to the servers meanwhile.
                    pipeline.update(ready, result.gradients, result.scale, factors)
                    if rows.size:
                        self._step.apply()
                    account.trained(rows)
                    self._log.loss(result.loss, ready.batch.data.total_weight)
                details = partial(_details, config, self._dense, self._first_step + number)
                self._log.step(number, samples, outstanding, details)
                if self._dense.schedule is not None:
                    self._dense.schedule.after_step()
            if self._group.trainer == 0:
                begin(Phase.DRAIN)
            pipeline.drain()


def _details(config: ModelConfig, dense: DenseTraining, step: int) -> dict[str, Any]:
    """Of the line of a step: the learning rates that it had, and the loss scale after it."""
    factors = zip(config.tables, learning_rate_factors(config, step), strict=True)
    rates = {table.name: table.optimizer.learning_rate * factor for table, factor in factors}
    scale = None if dense.loss_scale is None else dense.loss_scale.scale
    groups = [float(group["lr"]) for group in dense.optimizer.param_groups if "lr" in group]
    return {"learning_rates": {"dense": max(groups, default=None), "tables": rates}, "loss_scale": scale}


def _diverged(config: ModelConfig, account: Account) -> Diverged:
    return Diverged(
        f"training diverged: {account.visits_skipped} samples in {account.steps_done} steps had a "
        f"non-finite loss or gradient, allowed is a share of {config.training.max_skipped_share} "
        "(training.max_skipped_share)",
        "lower the learning rates, look at the dense features' ranges in the Data Docs, "
        "or start from an earlier day",
    )
