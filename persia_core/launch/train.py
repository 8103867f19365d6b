"""The training stage: a hashed partition and a parent checkpoint in, a run directory out."""

import json
import logging
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from persia_core.checkpoint.contents import check_contents
from persia_core.checkpoint.cuts import RunIdentity, newest_whole_cut
from persia_core.checkpoint.last_good import offer_last_good
from persia_core.checkpoint.layout import CHECKPOINT, CUTS, METRICS, METRICS_LINES, TENSORBOARD, run_directory
from persia_core.checkpoint.schema_change import SchemaChange, fit_to_schema
from persia_core.checkpoint.select import StoredCheckpoint, latest_checkpoint
from persia_core.checkpoint.stored_cuts import StoredCuts
from persia_core.config import ModelConfig
from persia_core.config.home import work_dir
from persia_core.data.partition import open_partition
from persia_core.embedding.day import logical_day
from persia_core.errors import Corrupt, NoParent
from persia_core.handoff.layout import MANIFEST, check_ds, check_name
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.transfer import download_and_verify
from persia_core.launch.directory_lock import LOCK, shared
from persia_core.launch.ending import end_survivors
from persia_core.launch.job import JOB_FILE, PARENTS, Job, job_id
from persia_core.launch.mpi import run_job
from persia_core.launch.published import published_metrics, without_bulk
from persia_core.launch.table_segments import TableSegments
from persia_core.launch.upload_cuts import CutUpload
from persia_core.launch.working_files import only_job_of, working_files
from persia_core.training.report import write_metrics

log = logging.getLogger(__name__)

_KEPT_WITH_A_CUT = (CUTS, METRICS_LINES, TENSORBOARD)


class TrainResult(BaseModel):
    """What the training stage says. `metrics` is metrics.json without curves, slices and server counters.

    `already_done`: the run was finished before, and nothing was trained.
    """

    run: str
    run_dir: str
    parent: str | None
    metrics: dict[str, Any]
    already_done: bool = False


def train_partition(
    config: ModelConfig,
    store: ObjectStore,
    ds: str,
    run: str,
    cold_start: bool = False,
    cold_start_dense: bool = False,
) -> TrainResult:
    """Train on the hashed partition `ds` in one MPI job, starting from the newest earlier checkpoint.

    `run` names the run: the same name again continues to mean the same run. A finished run is not trained
    twice; an interrupted one goes on from its newest whole cut, if configuration (but for the number of
    ranks), parent and partition are the same. Raises NoParent when there is no earlier checkpoint and
    `cold_start` is false, PartitionMissing, PartitionEmpty, Corrupt, DiskFull, Diverged, RankFailed,
    RankHung, RunLocked when another process trains this run, or EnvironmentProblem when the working files
    cannot be written.
    """
    logical_day(config, ds)  # tables that count days need one
    run_dir = run_directory(work_dir(), config.name, check_ds(ds), check_name("run", run)).absolute()
    parent = None if cold_start else _parent(config, store, ds, work_dir())
    if parent is None and not cold_start:
        raise NoParent(
            f"model {config.name} has no checkpoint before {ds} in {store.url}",
            "train the earlier days first, or begin here with --cold-start",
        )
    with working_files(work_dir()), only_job_of(run_dir):
        return _train(config, store, ds, run_dir, parent, cold_start_dense)


def _train(
    config: ModelConfig,
    store: ObjectStore,
    ds: str,
    run_dir: Path,
    parent: StoredCheckpoint | None,
    cold_start_dense: bool,
) -> TrainResult:
    work, run = work_dir(), run_dir.name
    parent_prefix = parent.prefix if parent is not None else None
    segments = TableSegments(config, run_dir)
    if survivors := end_survivors(run_dir):
        log.warning("a killed job of this run had left processes behind, ended now: %s", sorted(survivors))
    if finished := _finished(run_dir, config, parent_prefix):
        segments.remove()  # the job may have died after it had left its checkpoint
        log.info("run %s is finished already: %s", run, run_dir)
        return finished.model_copy(update={"already_done": True})
    if (metrics := published_metrics(store, config, ds, run)) is not None:
        segments.remove()
        log.info("run %s was trained and published already", run)
        return TrainResult(
            run=run, run_dir=str(run_dir), parent=parent_prefix, metrics=metrics, already_done=True
        )
    parent_dir = change = None
    with ExitStack() as held:
        partition = open_partition(store, config, ds, work)
        identity = RunIdentity.of(config, run, ds, parent_prefix, partition.manifest.digest)
        cut = newest_whole_cut(run_dir, identity, segments.have)
        stored = StoredCuts(store, config.name, ds, run)
        if config.checkpoint.upload:
            cut = stored.newest_whole(run_dir, identity, after=cut.step if cut else 0) or cut
        _clear(run_dir, _KEPT_WITH_A_CUT if cut is not None else ())
        segments.prepare(keep=cut is not None)
        (partition.directory / MANIFEST).write_bytes(partition.manifest.to_bytes())
        if cut is not None:
            log.info("run %s goes on from step %d: %s", run, cut.step, cut.directory)
        elif parent is not None:
            # Not one for all runs: what it holds is fitted to the configuration of the run.
            parent_dir = work / PARENTS / job_id(config.name, ds, run)
            held.enter_context(shared(parent_dir))
            change = _fetch_parent(config, store, ds, parent, parent_dir)
        job = Job(
            id=job_id(config.name, ds, run),
            config=config.model_dump(mode="json"),
            ds=ds,
            run_dir=run_dir,
            partition_dir=partition.directory,
            parent_dir=parent_dir,
            parent=parent_prefix,
            hashed_digest=partition.manifest.digest,
            cut_dir=cut.directory if cut is not None else None,
            schema_change=change.to_dict() if change is not None else None,
            cold_start_dense=cold_start_dense,
        )
        _run(job, config, stored)
    segments.remove()
    result = _finished(run_dir, config, parent_prefix)
    if result is None:
        raise RuntimeError(f"the job ended well and left no checkpoint or metrics in {run_dir}")
    return result


def _run(job: Job, config: ModelConfig, stored: StoredCuts) -> None:
    if not config.checkpoint.upload:
        run_job(job)
        return
    with CutUpload(stored, job.run_dir, config.checkpoint.keep) as upload:
        run_job(job)
    metrics = json.loads((job.run_dir / METRICS).read_text())
    metrics["cuts"] |= upload.counts  # which only the launcher knows
    write_metrics(job.run_dir, metrics)


def _parent(config: ModelConfig, store: ObjectStore, ds: str, work: Path) -> StoredCheckpoint | None:
    try:
        return latest_checkpoint(store, config.name, ds)
    except Corrupt as error:
        raise offer_last_good(store, config.name, ds, error, work) from error


def _fetch_parent(
    config: ModelConfig, store: ObjectStore, ds: str, parent: StoredCheckpoint, directory: Path
) -> SchemaChange | None:
    """The verified checkpoint in `directory`, with the tables of the configuration.

    Raises Corrupt naming the part that is not what it should be, and the last good checkpoint; ConfigError
    for a change that no checkpoint can follow.
    """
    try:
        manifest = download_and_verify(store, parent.prefix, directory, kind="checkpoint")
        check_contents(manifest, store.uri(parent.prefix + MANIFEST))
    except Corrupt as error:
        work = directory.parent
        raise offer_last_good(store, config.name, ds, error, work, parent.prefix) from error
    manifest, change = fit_to_schema(config, directory, manifest)
    (directory / MANIFEST).write_bytes(manifest.to_bytes())
    return change


def _clear(run_dir: Path, kept: tuple[str, ...]) -> None:
    """Remove what an earlier attempt left, but for the names in `kept`."""
    for path in run_dir.iterdir():
        if path.name in (*kept, LOCK):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _finished(run_dir: Path, config: ModelConfig, parent: str | None) -> TrainResult | None:
    """The result of a run that is complete and was made from the same configuration and parent.

    Such a run needs its cuts no more.
    """
    manifest, metrics, job = run_dir / CHECKPOINT / MANIFEST, run_dir / METRICS, run_dir / JOB_FILE
    if not (manifest.exists() and metrics.exists() and job.exists()):
        return None
    made_by = Job.model_validate_json(job.read_bytes())
    if made_by.resolved().digest() != config.digest() or made_by.parent != parent:
        return None
    shutil.rmtree(run_dir / CUTS, ignore_errors=True)
    document = without_bulk(json.loads(metrics.read_text()))
    return TrainResult(run=run_dir.name, run_dir=str(run_dir), parent=parent, metrics=document)
