"""One partition, as one trainer lives it: restore, evaluate, train, drain, save, evaluate."""

import logging
import time

import numpy as np
import torch
from numpy.typing import NDArray

from persia_core import phases
from persia_core.checkpoint.cut_chain import embedding_paths
from persia_core.checkpoint.dense_state import check_dense_fits, load_dense, read_state
from persia_core.checkpoint.layout import CHECKPOINT
from persia_core.checkpoint.write import Contents, write_checkpoint
from persia_core.config import ModelConfig
from persia_core.data.partition import reopen_partition
from persia_core.embedding.day import logical_day
from persia_core.launch.job import RENDEZVOUS, Job
from persia_core.phases import Phase
from persia_core.training.account import Account
from persia_core.training.calibration import calibration_bins
from persia_core.training.cut_writer import CutWriter, lineage_of
from persia_core.training.dense import DenseTraining, seed_trainer
from persia_core.training.dense_update import DenseUpdate, dense_update
from persia_core.training.embeddings import connect
from persia_core.training.evaluate import Evaluator
from persia_core.training.group import TrainerGroup
from persia_core.training.loop import TrainingLoop
from persia_core.training.meetings import Meetings
from persia_core.training.metrics import summary
from persia_core.training.order import SampleOrder, Stretch
from persia_core.training.past import Metrics, Past, skipped_tensors
from persia_core.training.position import position_of
from persia_core.training.random_state import random_states, restore_random_state
from persia_core.training.report import (
    add_staleness,
    read_labels,
    read_weights,
    staleness_of,
    table_bytes_of,
    table_rows_of,
    words_of_attached,
    write_metrics,
    write_parity,
)
from persia_core.training.reproducible import compute_reproducibly
from persia_core.training.slices import slices_of
from persia_core.training.step_times import StepTimes
from persia_core.training.training_log import TrainingLog

log = logging.getLogger(__name__)

PARITY_ROWS = 2048


def run_trainer(job: Job, config: ModelConfig, trainer: int) -> None:
    """Take part in the whole run. Trainer 0 also loads and saves, and writes the metrics.

    Raises Diverged, DiskFull, Corrupt, DataInvalid and the native module's errors; the caller ends the job.
    """
    run = PartitionRun(job, config, trainer)
    run.begin(Phase.LOAD)
    run.restore()
    run.begin(Phase.EVALUATE)
    if job.parent is not None and job.cut_dir is None:  # a cut has what came of it
        run.evaluate()
    run.begin(Phase.TRAIN)
    account, seconds = run.train()
    run.begin(Phase.SAVE)
    run.save(account)
    run.begin(Phase.REPORT)
    run.report(account, seconds)
    run.begin(Phase.LEAVE)
    run.leave()


class PartitionRun:
    """A trainer's part in training on one partition. Every trainer calls the methods in the same order."""

    def __init__(self, job: Job, config: ModelConfig, trainer: int) -> None:
        cluster, training = config.cluster, config.training
        if training.reproducible:
            compute_reproducibly()
        else:
            torch.set_num_threads(max(1, torch.get_num_threads() // cluster.trainers))
        self._job = job
        self._config = config
        self._lead = trainer == 0
        self._group = TrainerGroup.join(
            trainer,
            cluster.trainers,
            "cpu" if training.mode == "async" else training.device,
            job.run_dir / RENDEZVOUS,
            local_trainers=cluster.trainers,
            timeout_s=cluster.timeout_s,
            longest_wait_s=cluster.job_timeout_s,
        )
        self._partition = reopen_partition(job.partition_dir, config)
        self._worker = connect(config, self._partition, trainer)
        self._dense = DenseTraining.build(config, self._group.device)
        self._evaluator = Evaluator(config, self._group, self._worker, self._dense.model)
        self._cuts = CutWriter(config, job, self._worker)
        self._past = Past()
        self._step_times = StepTimes()

    @property
    def _order(self) -> SampleOrder:
        training = self._config.training
        epochs = training.epochs
        if self._job.parent is None:
            epochs = training.cold_start_epochs or epochs
        return SampleOrder(
            self._partition.rows, training.global_batch_size, epochs, training.shuffle, training.seed
        )

    def begin(self, phase: Phase) -> None:
        """Trainer 0 lets it be seen how far the job is."""
        if self._lead:
            phases.begin(phase)

    def restore(self) -> None:
        """Tell the servers their tables and the day; put the cut or parent checkpoint in place, if any."""
        source = self._job.cut_dir or self._job.parent_dir
        fresh = self._job.cold_start_dense and self._job.cut_dir is None
        if source is not None and not fresh:
            check_dense_fits(source, self._dense.model)  # before anything is loaded
        if self._lead:
            self._worker.configure()
        if source is not None:
            if self._lead:
                loaded = self._worker.load([str(path) for path in embedding_paths(source)])
                log.info("restored %d rows from %s", sum(int(str(each["rows"])) for each in loaded), source)
                if self._config.checkpoint.warm_restart is not None:
                    log.info("%s", words_of_attached(self._worker.stats()))
            if fresh:
                state = read_state(source)
            else:
                state = load_dense(source, self._dense.model, self._dense.optimizer)
                self._dense.load_state_dict(state)
            if self._job.cut_dir is not None:
                self._past = Past.of_cut(source, state)
            else:
                change = self._job.schema_change
                self._past = Past(first_step=int(state["step"]), schema_change=change)
        # Before the first lookup: rows that are too old must be gone from the evaluation too.
        if self._lead and (day := logical_day(self._config, self._job.ds)) is not None:
            self._worker.advance_day(day)
        self._group.barrier()

    def evaluate(self) -> Metrics | None:
        """Metrics on the whole partition before it is trained on, on trainer 0; None elsewhere."""
        predicted = self._evaluator.predict(self._partition, self._partition.rows)
        if predicted is None:
            return None
        self._past.before = self._metrics_of("before", predicted)
        log.info("before training on %s: %s", self._job.ds, _words(self._past.before))
        return self._past.before

    def train(self) -> tuple[Account, float]:
        """Train on the partition and drain; returns the account of samples and the seconds it took.

        Both are of the whole run, its earlier attempts included.
        """
        config, group, past, order = self._config, self._group, self._past, self._order
        self._seed()
        update = dense_update(config, group, self._dense, self._job.run_dir)
        keepers = 1 if update.averages else group.trainers
        account = Account(order.rows, order.steps, order.epochs, keepers)
        if past.account is not None:
            account.load_state_dict(past.account, past.rows_skipped, group.trainer)
        training_log = TrainingLog(
            self._job.run_dir,
            account,
            past.first_step,
            self._lead,
            config.training.tensorboard,
            self._step_times,
        )
        if past.log is not None and self._lead:
            training_log.load_state_dict(past.log)
        started = time.monotonic()
        with training_log:
            loop = TrainingLoop(config, group, self._dense, update, account, training_log, past.first_step)
            meetings = Meetings(config.checkpoint, past.step, order.steps)
            at = past.step
            while True:
                cut, until = group.told(meetings.plan(at))
                if cut:
                    self._cut(at, account, update, training_log, past.seconds + time.monotonic() - started)
                    meetings.go_on()
                if at >= order.steps:
                    break
                self._step_times.begin()
                loop.train(self._worker.pipeline(Stretch(order, at, until)))
                group.barrier()  # every trainer has drained: nothing is in flight
                at = until
        seconds = past.seconds + time.monotonic() - started
        update.settle()
        if self._dense.schedule is not None:
            self._dense.schedule.after_day()
        account = account.together(group)
        visits = account.visits_trained + account.visits_skipped
        if self._lead and visits != order.rows * order.epochs:
            raise RuntimeError(f"{visits} visits of {order.rows} rows in {order.epochs} epochs were counted")
        log.info(
            "trained: %d samples in %d steps, %.1f s, %.0f samples/s",
            account.visits_trained,
            account.steps_done,
            seconds,
            account.visits_trained / seconds,
        )
        return account, seconds

    def _seed(self) -> None:
        """Random states as the cut has them; anew if there are other trainers now, or no cut."""
        group, past = self._group, self._past
        if not (past.step > 0 and restore_random_state(group, past.tensors)):
            seed_trainer(self._config, self._job.ds, group.trainer, past.step)

    def _cut(
        self, step: int, account: Account, update: DenseUpdate, training_log: TrainingLog, seconds: float
    ) -> None:
        """One cut: all trainers have drained, and none goes on before all parts are written."""
        self._cuts.settle()
        update.settle()
        together = account.together(self._group)
        states = random_states(self._group)
        if self._lead:
            staleness = add_staleness(self._past.staleness, staleness_of(self._worker.stats()))
            run = self._past.for_cut(together.state_dict(), training_log.state_dict(), staleness)
            skipped = skipped_tensors(together.rows_skipped_by)
            tensors = {name: torch.from_numpy(rows) for name, rows in skipped.items()}
            self._cuts.take(step, self._contents(step, states | tensors, {"run": run}), seconds)
        self._group.barrier()

    def _contents(self, step: int, tensors: dict[str, torch.Tensor], more: dict[str, object]) -> Contents:
        state = {
            "step": self._past.first_step + step,
            "position": position_of(self._order, step, self._partition),
            "seed": self._config.training.seed,
            **self._dense.state_dict(),
            **more,
        }
        return Contents(self._dense.model, self._dense.optimizer, state, tensors)

    def save(self, account: Account) -> None:
        """Write the checkpoint: one cut, since no trainer goes on before it is written."""
        states = random_states(self._group)
        if self._lead:
            self._cuts.settle()
            log.info("saving the checkpoint to %s", self._job.run_dir)
            write_checkpoint(
                self._config,
                self._job.run_dir / CHECKPOINT,
                "checkpoint",
                lineage_of(self._config, self._job),
                self._worker,
                self._contents(account.steps, states, {}),
                {"run": self._job.run_dir.name},
            )
        self._group.barrier()

    def report(self, account: Account, seconds: float) -> None:
        """Predict the partition once more, and write metrics.json and parity.parquet."""
        predicted = self._evaluator.predict(self._partition, self._partition.rows)
        if predicted is None:
            return
        after = self._metrics_of("after", predicted)
        log.info("after training: %s", _words(after))
        count = min(PARITY_ROWS, self._partition.rows)
        write_parity(self._job.run_dir, self._partition.read(0, count), predicted[:count])
        stats = self._worker.stats()
        metrics = {
            **account.to_dict(),
            "before": self._past.before,
            "after": after,
            "slices": self._past.slices,
            "calibration_bins": self._past.calibration,
            "staleness": add_staleness(self._past.staleness, staleness_of(stats)),
            "table_rows": table_rows_of(stats),
            "table_bytes": table_bytes_of(stats),
            "servers": stats,
            "seconds": seconds,
            "step_seconds": self._step_times.to_dict(),
            "samples_per_second": account.visits_trained / seconds,
            "cuts": self._cuts.report(),
            "resumed_at": self._past.resumed_at,
            "schema_change": self._past.schema_change,
        }
        write_metrics(self._job.run_dir, metrics)

    def _metrics_of(self, when: str, predicted: NDArray[np.float32]) -> Metrics:
        labels, weights = read_labels(self._partition), read_weights(self._partition)
        self._past.slices[when] = slices_of(self._config, self._partition, labels, predicted, weights)
        self._past.calibration[when] = calibration_bins(labels, predicted, weights=weights)
        return summary(labels, predicted, weights)

    def leave(self) -> None:
        """End the servers, once every trainer is done with them."""
        self._group.barrier()
        if self._lead:
            self._worker.shutdown()
        self._worker.close()
        self._group.leave()


def _words(metrics: Metrics) -> str:
    return ", ".join(f"{k} {f'{v:.4f}' if isinstance(v, float) else v}" for k, v in metrics.items())
