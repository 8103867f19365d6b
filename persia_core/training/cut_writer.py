"""Writing the cuts of a run, in trainer 0: training waits for the parts, not for the rest."""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from persia_core.checkpoint.cuts import RunIdentity, cut_directory, prune_cuts
from persia_core.checkpoint.write import Contents, complete, write_parts
from persia_core.config import ModelConfig
from persia_core.embedding.interface import Tables
from persia_core.launch.job import Job

log = logging.getLogger(__name__)


class CutWriter:
    """Takes one cut after another.

    Every part is on disk when `take` returns. They are hashed, the manifest written and older cuts removed
    in a thread of its own, while training goes on; what fails there is raised by the next call.
    """

    def __init__(self, config: ModelConfig, job: Job, worker: Tables) -> None:
        self._config = config
        self._job = job
        self._worker = worker
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cut")
        self._pending: Future[None] | None = None
        self.pauses: list[float] = []  # seconds that training stood still

    def take(self, step: int, contents: Contents, seconds: float) -> None:
        """Write the cut after `step` steps of the run, which took so many seconds of training.

        To be called while no gradients are in flight. Raises DiskFull and the native worker's errors.
        """
        began = time.monotonic()
        self.settle()
        directory = cut_directory(self._job.run_dir, step)
        rows = write_parts(directory, self._worker, contents)
        identity = RunIdentity.of(
            self._config, self._job.run_dir.name, self._job.ds, self._job.parent, self._job.hashed_digest
        )
        details = {"run": identity.run, "run_step": step, "training_digest": identity.training_digest}

        def finish() -> None:
            model_step, lineage = contents.state["step"], lineage_of(self._config, self._job)
            metrics = {"seconds": seconds}
            complete(self._config, directory, "cut", lineage, model_step, rows, details, metrics)
            prune_cuts(self._job.run_dir, self._config.checkpoint.keep)

        self._pending = self._pool.submit(finish)
        self.pauses.append(time.monotonic() - began)
        log.info("cut at step %d: training stood still for %.3f s", step, self.pauses[-1])

    def settle(self) -> None:
        """Wait until the last cut is complete; raises what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def report(self) -> dict[str, Any]:
        """For metrics.json: how many cuts this attempt took, and how long training stood still."""
        return {
            "taken": len(self.pauses),
            "pause_s": round(sum(self.pauses), 3),
            "longest_pause_s": round(max(self.pauses, default=0.0), 3),
        }


def lineage_of(config: ModelConfig, job: Job) -> dict[str, str | None]:
    """Where a checkpoint of the job came from."""
    return {
        "dataset": config.dataset.name,
        "ds": job.ds,
        "parent": job.parent,
        "hashed_digest": job.hashed_digest,
    }
