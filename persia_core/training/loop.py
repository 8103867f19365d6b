"""The loop over the batches of a partition."""

import json
import logging
from pathlib import Path

from persia_core.checkpoint.layout import METRICS_LINES
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
from persia_core.training.progress import Progress
from persia_core.training.staging import staging_for
from persia_core.training.step import TrainingStep

log = logging.getLogger(__name__)

LOSS_POINTS = 200  # of the learning curve that is kept


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
    `account`. Trainer 0 writes the learning curve of its own samples to metrics.jsonl. Raises Diverged as
    soon as more samples were skipped than the configuration allows: on every trainer alike, but in mode
    async on the one that skipped them.
    """
    dense.model.train()
    staging = staging_for(group.device, table_indices(config), config.training.staleness)
    step = TrainingStep(config, group, dense, update, staging)
    lead = group.trainer == 0
    progress = Progress("training", account.steps, "steps", quiet=not lead)
    every = max(1, account.steps // LOSS_POINTS)
    meter = _LossMeter()
    with (
        batches as pipeline,
        (run_dir / METRICS_LINES).open("w" if lead else "a") as lines,
    ):
        for ready, inputs in staging.ahead(pipeline):
            rows = ready.batch.step.rows
            result = step.run(inputs, rows.size)
            if not update.averages:  # each trainer skips, and accounts for, its own samples
                rows = share(rows, group.trainer, group.trainers)
            if result.skip is not None:
                pipeline.discard(ready)
                account.skipped(rows, result.skip)
                log.warning("step %d skipped: %s", ready.batch.step.number, result.skip)
                if account.too_many_skipped(config.training.max_skipped_share):
                    raise _diverged(config, account)
            else:
                factors = learning_rate_factors(config, first_step + ready.batch.step.number)
                # Before the dense step: the gradients are on their way to the servers meanwhile.
                pipeline.update(ready, result.gradients, result.scale, factors)
                if rows.size:
                    step.apply()
                account.trained(rows)
                meter.add(result.loss, ready.batch.data.rows)
            if dense.schedule is not None:
                dense.schedule.after_step()
            if lead and account.steps_done % every == 0 and (mean := meter.take()) is not None:
                account.losses.append((ready.batch.step.number, mean))
                lines.write(json.dumps({"step": ready.batch.step.number, "loss": mean}) + "\n")
            progress.advance(1, meter.words)
        pipeline.drain()


class _LossMeter:
    """The mean loss of this trainer's samples since the last point of the learning curve."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._rows = 0
        self._last: float | None = None

    def add(self, loss_sum: float, rows: int) -> None:
        self._sum += loss_sum
        self._rows += rows

    def take(self) -> float | None:
        if self._rows:
            self._last = self._sum / self._rows
        self._sum, self._rows = 0.0, 0
        return self._last

    def words(self) -> str:
        mean = self._sum / self._rows if self._rows else self._last
        return "no loss yet" if mean is None else f"loss {mean:.4f}"


def _diverged(config: ModelConfig, account: Account) -> Diverged:
    return Diverged(
        f"training diverged: {account.visits_skipped} samples in {account.steps_done} steps had a "
        f"non-finite loss or gradient, allowed is a share of {config.training.max_skipped_share} "
        "(training.max_skipped_share)",
        "lower the learning rates, look at the dense features' ranges in the Data Docs, "
        "or start from an earlier day",
    )
