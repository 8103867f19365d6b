"""The loop over the batches of a partition."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig
from persia_core.embedding.interface import Pipeline
from persia_core.embedding.schedule import learning_rate_factors
from persia_core.embedding.tables import table_indices
from persia_core.errors import Diverged
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


def train(
    config: ModelConfig,
    group: TrainerGroup,
    batches: Pipeline[TrainerBatch],
    dense: DenseTraining,
    update: DenseUpdate,
    account: Account,
    run_dir: Path,
    first_step: int,
) -> None:
    """Train on all batches, then wait until every gradient has been acknowledged.

    `first_step` is the step of the model that the first batch is: schedules count on from it. Fills
    `account`. See TrainingLog for what can be seen meanwhile. Raises Diverged as soon as more samples were
    skipped than the configuration allows: on every trainer alike, but in mode async on the one that did.
    """
    dense.model.train()
    staging = staging_for(group.device, table_indices(config), config.training.staleness)
    step = TrainingStep(config, group, dense, update, staging)
    lead, tensorboard = group.trainer == 0, config.training.tensorboard
    with (
        batches as pipeline,
        TrainingLog(run_dir, account, first_step, lead, tensorboard) as training_log,
    ):
        for ready, inputs in staging.ahead(pipeline):
            number, rows = ready.batch.step.number, ready.batch.step.rows
            samples, outstanding = rows.size, pipeline.outstanding
            result = step.run(inputs, ready.batch.total_weight)
            account.ids_truncated += ready.lookup.truncated_ids
            if not update.averages:  # each trainer skips, and accounts for, its own samples
                rows = share(rows, group.trainer, group.trainers)
            if result.skip is not None:
                pipeline.discard(ready)
                account.skipped(rows, result.skip)
                log.warning("step %d skipped: %s", number, result.skip)
                if account.too_many_skipped(config.training.max_skipped_share):
                    raise _diverged(config, account)
            else:
                factors = learning_rate_factors(config, first_step + number)
                # Before the dense step: the gradients are on their way to the servers meanwhile.
                pipeline.update(ready, result.gradients, result.scale, factors)
                if rows.size:
                    step.apply()
                account.trained(rows)
                training_log.loss(result.loss, ready.batch.data.total_weight)
            training_log.step(
                number, samples, outstanding, partial(_details, config, dense, first_step + number)
            )
            if dense.schedule is not None:
                dense.schedule.after_step()
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
