"""Writing the cuts of a run, in trainer 0, mostly while training goes on."""

import logging
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from persia_core.checkpoint.chain import Part
from persia_core.checkpoint.cut_chain import FOLLOWS, embedding_paths
from persia_core.checkpoint.cuts import RunIdentity, cut_directory, prune_cuts
from persia_core.checkpoint.layout import is_embedding_part
from persia_core.checkpoint.write import Contents, SaveKind, begin_parts, complete, finish_parts, write_parts
from persia_core.config import ModelConfig
from persia_core.embedding.errors import server_error_code
from persia_core.embedding.interface import Tables
from persia_core.errors import Corrupt
from persia_core.launch.job import Job
from persia_core.training.compact_apart import NotCompacted, compact_apart
from persia_core.training.growing_chain import GrowingChain

log = logging.getLogger(__name__)

_BASE = ".base"  # in the folder of a cut, while its parts are made a base


class CutWriter:
    """Takes one cut after another: bases, and deltas that hold what has changed since the cut before.

    When `take` returns, the network is written, and the tables are; or with `checkpoint.snapshot`, a snapshot
    of them is taken. The rest is done in a thread of its own, while training goes on: writing, hashing, the
    manifest, and removing older cuts. What fails there is raised by the next call. One failure is only
    counted: when the system ends a process that writes a snapshot, for want of memory.
    """

    def __init__(self, config: ModelConfig, job: Job, worker: Tables) -> None:
        self._config = config
        self._job = job
        self._worker = worker
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cut")
        self._pending: Future[None] | None = None
        self._chain = GrowingChain(config.checkpoint.base_every, config.checkpoint.compact)
        self._failed = self._deltas = self._bytes = self._compacted = self._not_compacted = 0
        self._pauses: list[float] = []  # seconds that training stood still

    def take(self, step: int, contents: Contents, seconds: float) -> None:
        """Write the cut after `step` steps of the run, which took so many seconds of training.

        To be called after `settle`, while no gradients are in flight. Raises DiskFull and the native worker's
        errors.
        """
        began = time.monotonic()
        directory, snapshot = cut_directory(self._job.run_dir, step), self._config.checkpoint.snapshot
        kind, rows = self._chain.next_kind(), None
        if kind == "full" and not snapshot:
            rows = write_parts(directory, self._worker, contents)
        else:
            begin_parts(directory, self._worker, contents, kind, 0 if kind == "full" else step)
        self._pending = self._pool.submit(self._finish, kind, step, contents.state["step"], seconds, rows)
        if rows is None and not snapshot:
            self.settle()
        self._pauses.append(time.monotonic() - began)
        log.info("cut at step %d: training stood still for %.3f s", step, self._pauses[-1])

    def _finish(
        self,
        kind: SaveKind,
        step: int,
        model_step: int,
        seconds: float,
        rows: dict[str, int | None] | None,
    ) -> None:
        config, job, follows = self._config, self._job, self._chain.beneath(kind)
        directory = cut_directory(job.run_dir, step)
        try:
            rows = rows or finish_parts(directory, self._worker)
        except RuntimeError as error:
            if server_error_code(error) != "SAVE_FAILED":
                raise
            self._failed += 1
            self._chain.break_off()
            log.warning("there is no cut at step %d: %s", step, error)
            return
        compacts = kind == "delta" and self._chain.compacts_next
        compacted = compacts and self._compact(directory, rows)
        if compacted:
            kind, follows = "base", []
        identity = RunIdentity.of(config, job.run_dir.name, job.ds, job.parent, job.hashed_digest)
        details = {
            "run": identity.run,
            "run_step": step,
            "training_digest": identity.training_digest,
            FOLLOWS: [link.model_dump() for link in follows],
        }
        lineage, metrics = lineage_of(config, job), {"seconds": seconds}
        manifest = complete(config, directory, "cut", lineage, model_step, rows, details, metrics)
        self._chain.add(kind, step, manifest)
        if compacts and not compacted:
            self._chain.break_off()
        self._compacted += compacted
        self._not_compacted += compacts and not compacted
        self._deltas += kind == "delta"
        size = sum(part.size for part in manifest.parts)
        self._bytes += size
        held = f"what has changed since step {follows[-1].step}" if follows else "all rows"
        log.info("cut at step %d holds %s: %.1f MB", step, held, size / 1e6)
        prune_cuts(job.run_dir, config.checkpoint.keep)

    def _compact(self, directory: Path, rows: dict[str, int | None]) -> bool:
        """Whether the parts of a delta, which has no manifest yet, were made a base; then `rows` are of that.

        Where it fails they stay what they are.
        """
        parts = [directory / name for name in rows if is_embedding_part(name)]
        beneath = cut_directory(self._job.run_dir, self._chain.beneath("delta")[-1].step)
        base = directory / _BASE
        try:
            base.mkdir()
            compact_apart([*embedding_paths(beneath), *parts], base)
        except (NotCompacted, Corrupt, OSError) as error:
            log.warning("the cut at step %s is not compacted: %s", directory.name, error)
            return False
        else:
            for part in parts:
                (base / part.name).replace(part)
                rows[part.name] = Part.open(part).rows
            return True
        finally:
            shutil.rmtree(base, ignore_errors=True)

    def settle(self) -> None:
        """Wait until the last cut is complete; raises what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def report(self) -> dict[str, Any]:
        """For metrics.json, of this attempt: how many cuts, their size, how long training stood still."""
        return {
            "taken": len(self._pauses) - self._failed,
            "failed": self._failed,
            "deltas": self._deltas,
            "compacted": self._compacted,
            "not_compacted": self._not_compacted,
            "bytes": self._bytes,
            "pause_s": round(sum(self._pauses), 3),
            "longest_pause_s": round(max(self._pauses, default=0.0), 3),
        }


def lineage_of(config: ModelConfig, job: Job) -> dict[str, str | None]:
    """Where a checkpoint of the job came from."""
    return {
        "dataset": config.dataset.name,
        "ds": job.ds,
        "parent": job.parent,
        "hashed_digest": job.hashed_digest,
    }
