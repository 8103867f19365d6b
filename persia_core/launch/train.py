"""The training stage: a hashed partition and a parent checkpoint in, a run directory out."""

import errno
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from persia_core.checkpoint.layout import CHECKPOINT, METRICS, run_directory
from persia_core.checkpoint.select import latest_checkpoint
from persia_core.config import ModelConfig
from persia_core.config.home import work_dir
from persia_core.data.partition import open_partition
from persia_core.embedding.day import logical_day
from persia_core.errors import DiskFull, NoParent
from persia_core.handoff.layout import MANIFEST, check_ds, check_name
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.transfer import download_and_verify
from persia_core.launch.job import JOB_FILE, Job
from persia_core.launch.mpi import run_job

log = logging.getLogger(__name__)


class TrainResult(BaseModel):
    """What the training stage says. `metrics` is metrics.json without curves, slices and server counters."""

    run: str
    run_dir: str
    parent: str | None
    metrics: dict[str, Any]


def train_partition(
    config: ModelConfig, store: ObjectStore, ds: str, run: str, cold_start: bool = False
) -> TrainResult:
    """Train on the hashed partition `ds` in one MPI job, starting from the newest earlier checkpoint.

    `run` names the run: the same name again continues to mean the same run, and a finished run is not
    trained twice. Raises NoParent when there is no earlier checkpoint and `cold_start` is false,
    PartitionMissing, PartitionEmpty, Corrupt, DiskFull, Diverged, RankFailed, RankHung.
    """
    work = work_dir()
    logical_day(config, ds)  # tables that count days need one
    run_dir = run_directory(work, config.name, check_ds(ds), check_name("run", run)).absolute()
    parent = None if cold_start else latest_checkpoint(store, config.name, ds)
    if parent is None and not cold_start:
        raise NoParent(
            f"model {config.name} has no checkpoint before {ds} in {store.url}",
            "train the earlier days first, or begin here with --cold-start",
        )
    parent_prefix = parent.prefix if parent is not None else None
    if finished := _finished(run_dir, config, parent_prefix):
        log.info("run %s is finished already: %s", run, run_dir)
        return finished
    try:
        partition = open_partition(store, config, ds, work)
        shutil.rmtree(run_dir, ignore_errors=True)
        run_dir.mkdir(parents=True)
        (partition.directory / MANIFEST).write_bytes(partition.manifest.to_bytes())
        parent_dir = None
        if parent is not None:
            parent_dir = work / "parents" / parent.manifest.digest[:16]
            manifest = download_and_verify(store, parent.prefix, parent_dir, kind="checkpoint")
            (parent_dir / MANIFEST).write_bytes(manifest.to_bytes())
        job = Job(
            id=f"{config.name}-{ds}-{run}",
            config=config.model_dump(mode="json"),
            ds=ds,
            run_dir=run_dir,
            partition_dir=partition.directory,
            parent_dir=parent_dir,
            parent=parent_prefix,
            hashed_digest=partition.manifest.digest,
        )
        run_job(job)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"no space left under {work}", "free space or set PERSIA_HOME to a larger disk, then run again"
        ) from error
    finally:
        if parent is not None:
            shutil.rmtree(work / "parents" / parent.manifest.digest[:16], ignore_errors=True)
    result = _finished(run_dir, config, parent_prefix)
    if result is None:
        raise RuntimeError(f"the job ended well and left no checkpoint or metrics in {run_dir}")
    return result


def _finished(run_dir: Path, config: ModelConfig, parent: str | None) -> TrainResult | None:
    """The result of a run that is complete and was made from the same configuration and parent."""
    manifest, metrics, job = run_dir / CHECKPOINT / MANIFEST, run_dir / METRICS, run_dir / JOB_FILE
    if not (manifest.exists() and metrics.exists() and job.exists()):
        return None
    made_by = Job.model_validate_json(job.read_bytes())
    if made_by.resolved().digest() != config.digest() or made_by.parent != parent:
        return None
    document = json.loads(metrics.read_text())
    for bulky in ("loss", "servers", "slices"):
        document.pop(bulky, None)
    return TrainResult(run=run_dir.name, run_dir=str(run_dir), parent=parent, metrics=document)
