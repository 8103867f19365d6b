"""One partition, as one trainer lives it: restore, evaluate, train, drain, save, evaluate."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persia_core.checkpoint.dense_state import load_dense
from persia_core.checkpoint.layout import is_embedding_part
from persia_core.checkpoint.write import write_checkpoint
from persia_core.config import ModelConfig
from persia_core.data.partition import reopen_partition
from persia_core.embedding.day import logical_day
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Manifest
from persia_core.launch.job import RENDEZVOUS, Job
from persia_core.training.account import Account
from persia_core.training.calibration import calibration_bins
from persia_core.training.dense import DenseTraining, seed_trainer
from persia_core.training.dense_update import dense_update
from persia_core.training.embeddings import connect
from persia_core.training.evaluate import Evaluator
from persia_core.training.group import TrainerGroup
from persia_core.training.loop import train
from persia_core.training.metrics import summary
from persia_core.training.order import SampleOrder
from persia_core.training.report import (
    read_labels,
    read_weights,
    staleness_of,
    table_rows_of,
    write_metrics,
    write_parity,
)
from persia_core.training.reproducible import compute_reproducibly
from persia_core.training.slices import Slices, slices_of

log = logging.getLogger(__name__)

PARITY_ROWS = 2048

Metrics = dict[str, float | int | None]


def run_trainer(job: Job, config: ModelConfig, trainer: int) -> None:
    """Take part in the whole run. Trainer 0 also loads and saves, and writes the metrics.

    Raises Diverged, DiskFull, Corrupt, DataInvalid and the native module's errors; the caller ends the job.
    """
    run = PartitionRun(job, config, trainer)
    run.restore()
    before = run.evaluate() if job.parent_dir is not None else None
    account, seconds = run.train()
    run.save(account)
    run.report(account, seconds, before)
    run.leave()


class PartitionRun:
    """A trainer's part in training on one partition. Every trainer calls the methods in the same order."""

    def __init__(self, job: Job, config: ModelConfig, trainer: int) -> None:
        cluster = config.cluster
        if config.training.reproducible:
            compute_reproducibly()
        else:
            torch.set_num_threads(max(1, torch.get_num_threads() // cluster.trainers))
        self._job = job
        self._config = config
        self._lead = trainer == 0
        self._group = TrainerGroup.join(
            trainer,
            cluster.trainers,
            "cpu" if config.training.mode == "async" else config.training.device,
            job.run_dir / RENDEZVOUS,
            local_trainers=cluster.trainers,
            timeout_s=cluster.timeout_s,
            longest_wait_s=cluster.job_timeout_s,
        )
        self._partition = reopen_partition(job.partition_dir, config)
        self._worker = connect(config, self._partition, trainer)
        self._dense = DenseTraining.build(config, self._group.device)
        self._evaluator = Evaluator(config, self._group, self._worker, self._dense.model)
        self._first_step = 0
        self._slices: dict[str, Slices] = {}
        self._calibration: dict[str, list[dict[str, float | int]]] = {}

    def restore(self) -> None:
        """Tell the servers their tables and the day; put the parent checkpoint in place, if there is one."""
        if self._lead:
            self._worker.configure()
        parent = self._job.parent_dir
        if parent is not None:
            if self._lead:
                parts = [part for part in _manifest(parent).parts if is_embedding_part(part.path)]
                self._worker.load([str(parent / part.path) for part in parts])
                log.info("restored %d rows from %s", sum(part.rows or 0 for part in parts), self._job.parent)
            state = load_dense(parent, self._dense.model, self._dense.optimizer)
            self._dense.load_state_dict(state)
            self._first_step = int(state["step"])
        # Before the first lookup: rows that are too old must be gone from the evaluation too.
        if self._lead and (day := logical_day(self._config, self._job.ds)) is not None:
            self._worker.advance_day(day)
        self._group.barrier()

    def evaluate(self) -> Metrics | None:
        """Metrics on the whole partition as the model stands, on trainer 0; None elsewhere."""
        predicted = self._evaluator.predict(self._partition, self._partition.rows)
        if predicted is None:
            return None
        found = self._metrics_of("before", predicted)
        log.info(
            "before training on %s: %s", self._job.ds, ", ".join(f"{k} {_short(v)}" for k, v in found.items())
        )
        return found

    def train(self) -> tuple[Account, float]:
        """Train on the partition and drain; returns the account of samples and the seconds it took."""
        config, trainers = self._config, self._group.trainers
        training = config.training
        seed_trainer(config, self._job.ds, self._group.trainer)
        epochs = training.epochs
        if self._job.parent_dir is None:
            epochs = training.cold_start_epochs or epochs
        order = SampleOrder(
            self._partition.rows, training.global_batch_size, epochs, training.shuffle, training.seed
        )
        update = dense_update(config, self._group, self._dense, self._job.run_dir)
        keepers = 1 if update.averages else trainers
        account = Account(self._partition.rows, order.steps, epochs, keepers)
        started = time.monotonic()
        train(
            config,
            self._group,
            self._worker.pipeline(order),
            self._dense,
            update,
            account,
            self._job.run_dir,
            self._first_step,
        )
        self._group.barrier()  # every trainer has drained: nothing is in flight
        seconds = time.monotonic() - started
        update.settle()
        if self._dense.schedule is not None:
            self._dense.schedule.after_day()
        account.together(self._group)
        log.info(
            "trained: %d samples in %d steps, %.1f s, %.0f samples/s",
            account.visits_trained,
            account.steps_done,
            seconds,
            account.visits_trained / seconds,
        )
        return account, seconds

    def save(self, account: Account) -> None:
        """Write the checkpoint: one cut, since no trainer goes on before it is written."""
        if self._lead:
            log.info("saving the checkpoint to %s", self._job.run_dir)
            lineage = {
                "dataset": self._config.dataset.name,
                "ds": self._job.ds,
                "parent": self._job.parent,
                "hashed_digest": self._job.hashed_digest,
            }
            state: dict[str, Any] = {
                "step": self._first_step + account.steps,
                "position": {"ds": self._job.ds, "rows": self._partition.rows, "complete": True},
                "seed": self._config.training.seed,
                **self._dense.state_dict(),
            }
            model, optimizer = self._dense.model, self._dense.optimizer
            write_checkpoint(self._config, self._job.run_dir, lineage, self._worker, model, optimizer, state)
        self._group.barrier()

    def report(self, account: Account, seconds: float, before: Metrics | None) -> None:
        """Predict the partition once more, and write metrics.json and parity.parquet."""
        predicted = self._evaluator.predict(self._partition, self._partition.rows)
        if predicted is None:
            return
        after = self._metrics_of("after", predicted)
        log.info("after training: %s", ", ".join(f"{k} {_short(v)}" for k, v in after.items()))
        count = min(PARITY_ROWS, self._partition.rows)
        write_parity(self._job.run_dir, self._partition.read(0, count), predicted[:count])
        stats = self._worker.stats()
        metrics = {
            **account.to_dict(),
            "before": before,
            "after": after,
            "slices": self._slices,
            "calibration_bins": self._calibration,
            "staleness": staleness_of(stats),
            "table_rows": table_rows_of(stats),
            "servers": stats,
            "seconds": seconds,
            "samples_per_second": account.visits_trained / seconds,
        }
        write_metrics(self._job.run_dir, metrics)

    def _metrics_of(self, when: str, predicted: NDArray[np.float32]) -> Metrics:
        labels, weights = read_labels(self._partition), read_weights(self._partition)
        self._slices[when] = slices_of(self._config, self._partition, labels, predicted, weights)
        self._calibration[when] = calibration_bins(labels, predicted, weights=weights)
        return summary(labels, predicted, weights)

    def leave(self) -> None:
        """End the servers, once every trainer is done with them."""
        self._group.barrier()
        if self._lead:
            self._worker.shutdown()
        self._worker.close()
        self._group.leave()


def _short(value: float | int | None) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _manifest(directory: Path) -> Manifest:
    return Manifest.from_bytes((directory / MANIFEST).read_bytes(), str(directory / MANIFEST))
