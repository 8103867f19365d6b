"""What every trainer of the study runs under mpiexec, beside the servers: all seeds of a setting."""

import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any, cast

from benchmarks.study.job import STUDY_FILE, StudyJob
from benchmarks.study.seeded import SeedWorker
from persia_core._native import EmbeddingWorker
from persia_core.config import ModelConfig
from persia_core.config.checkpointing import Checkpointing
from persia_core.data.partition import reopen_partition
from persia_core.launch.job import Job
from persia_core.launch.parent import end_with_parent
from persia_core.training.dense import DenseTraining
from persia_core.training.embeddings import LocalEmbeddings
from persia_core.training.evaluate import Evaluator
from persia_core.training.past import Past
from persia_core.training.report import staleness_of
from persia_core.training.run import PartitionRun

Histogram = dict[int, int]


class StudyRun(PartitionRun):
    """The product's training run, with another network, other rows and another order for every seed."""

    def __init__(self, job: Job, config: ModelConfig, trainer: int, study: StudyJob) -> None:
        never = Checkpointing(every_seconds=None)
        super().__init__(job, config.model_copy(update={"checkpoint": never}), trainer)
        self._embeddings = self._worker
        if not isinstance(self._embeddings, LocalEmbeddings):
            raise TypeError(
                "the study needs embedding workers inside the trainers: cluster.embedding_workers: 0"
            )
        self._native: EmbeddingWorker = self._embeddings._worker
        self._study = study
        self._days = [reopen_partition(directory, config) for directory in study.partitions]
        self._next_batch = 0
        self._outstanding: Histogram = {}

    def run_seed(self, seed: int) -> None:
        """Train on every day but the last, test on every day but the first; trainer 0 writes one line."""
        seeded = SeedWorker(self._native, seed, self._next_batch)
        worker = cast("EmbeddingWorker", seeded)
        training = self._config.training.model_copy(update={"seed": seed})
        self._config = self._config.model_copy(update={"training": training})
        self._dense = DenseTraining.build(self._config, self._group.device)
        self._past = Past()
        tested: dict[str, dict[str, Any]] = {}
        samples, seconds, skipped = 0, 0.0, 0
        for day, ds in enumerate(self._study.days):
            self._partition = self._days[day]
            self._worker = LocalEmbeddings(worker, self._config, self._partition, self._group.trainer)
            self._evaluator = Evaluator(self._config, self._group, self._worker, self._dense.model)
            self._job = self._job.model_copy(update={"ds": ds})
            if day > 0 and (found := self.evaluate()) is not None:
                tested[ds] = found
            if day < len(self._days) - 1:
                account, took = self.train()
                samples, seconds = samples + account.visits_trained, seconds + took
                skipped += account.visits_skipped
                self._past.first_step += account.steps
        self._next_batch = seeded.next_batch
        if self._lead:
            self._write(seed, tested, samples, seconds, skipped)

    def _write(
        self, seed: int, tested: dict[str, dict[str, Any]], samples: int, seconds: float, skipped: int
    ) -> None:
        aucs = [found["auc"] for found in tested.values()]
        losses = [found["log_loss"] for found in tested.values()]
        record = {
            **self._study.labels,
            "seed": seed,
            "auc": sum(aucs) / len(aucs),
            "log_loss": sum(losses) / len(losses),
            "auc_of_day": {ds: found["auc"] for ds, found in tested.items()},
            "steps": self._past.first_step,
            "samples": samples,
            "skipped": skipped,
            "seconds": seconds,
            "staleness": self._staleness(),
        }
        with self._study.results.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")

    def _staleness(self) -> dict[str, float]:
        """Batches of the trainer on their way at an update: mean and maximum over those of this seed."""
        histogram = staleness_of(self._native.stats())["histogram"]
        now = {int(value): int(count) for value, count in histogram.items()}
        counts = {value: count - self._outstanding.get(value, 0) for value, count in now.items()}
        self._outstanding = now
        updates = {value: count for value, count in counts.items() if count}
        total = sum(updates.values())
        mean = sum(value * count for value, count in updates.items()) / max(1, total)
        return {"mean": mean, "max": max(updates, default=0)}

    def leave(self) -> None:
        """End the servers."""
        self._worker = self._embeddings
        super().leave()


def main() -> None:
    """Take part in the job of the first argument; any failure ends the whole MPI job."""
    end_with_parent()
    import mpi4py

    mpi4py.rc.thread_level = "multiple"
    from mpi4py import MPI

    job = Job.model_validate_json(Path(sys.argv[1]).read_bytes())
    study = StudyJob.model_validate_json((job.run_dir / STUDY_FILE).read_bytes())
    config = job.resolved()
    trainer = MPI.COMM_WORLD.Get_rank() - config.cluster.servers
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s [trainer {trainer}] %(message)s", datefmt="%H:%M:%S"
    )
    try:
        run = StudyRun(job, config, trainer, study)
        run.restore()
        for seed in study.seeds:
            run.run_seed(seed)
        run.leave()
    except Exception:
        traceback.print_exc()
        MPI.COMM_WORLD.Abort(1)
        os._exit(1)  # MPI_Abort may return before the launcher has ended us


if __name__ == "__main__":
    main()
