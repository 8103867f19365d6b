"""The end of a training run: its job, if it still runs, and the files that nobody needs any more."""

import logging
import shutil

from pydantic import BaseModel

from persia_core.checkpoint.layout import run_directory
from persia_core.config import ModelConfig
from persia_core.config.airflow import AirflowSection
from persia_core.config.home import project_dir, work_dir
from persia_core.handoff.layout import check_ds, check_name, checkpoint_prefix
from persia_core.handoff.models import version_of_checkpoint
from persia_core.handoff.object_store import ObjectStore
from persia_core.launch.backends.choose import client_of
from persia_core.launch.backends.interface import BackEndClient, JobStatus
from persia_core.launch.job import job_id
from persia_core.launch.job_directory import JobDirectory
from persia_core.launch.kept_runs import keep_files

log = logging.getLogger(__name__)


class RunEnd(BaseModel):
    """`was` is the phase of the job before it was ended; `removed` and `kept` are paths on this host."""

    job: str
    was: str
    removed: list[str]
    kept: list[str]


class JobView(BaseModel):
    """A job as a person asks for it. `exit_code` is None until it has ended."""

    job: str
    phase: str
    exit_code: int | None
    note: str
    output: str


def show_job(config: ModelConfig, ds: str, run: str) -> JobView:
    """How the job of a training run is now."""
    _, job, status = _look(config, ds, run)
    return JobView(
        job=job.name, phase=status.phase, exit_code=status.exit_code, note=status.note, output=str(job.output)
    )


def end_run(config: ModelConfig, store: ObjectStore, ds: str, run: str) -> RunEnd:
    """End the job of a run, and remove its files if a version was published from it.

    But for what people look at later, which stays for `retention.run_files_days`. The files of a run that is
    not published stay: the failed task can be cleared, and goes on from them.
    `run` may be empty, when nothing was submitted: then there is nothing to do.
    """
    if not run:
        return RunEnd(job="", was="absent", removed=[], kept=[])
    client, job, status = _look(config, ds, run)
    if status.active:
        log.info("ending job %s", job.name)
        client.cancel(job)
    run_dir = run_directory(work_dir(), config.name, ds, run).absolute()
    published = version_of_checkpoint(store, config.name, checkpoint_prefix(config.name, ds, run))
    if published is None:
        log.info("run %s is not published: its files stay for the task to be cleared", run)
        there = [str(path) for path in (run_dir, job.path) if path.exists()]
        return RunEnd(job=job.name, was=status.phase, removed=[], kept=there)
    removed, kept = keep_files(run_dir, published, config.retention)
    if job.path.exists():
        shutil.rmtree(job.path, ignore_errors=True)
        removed.append(job.path)
    log.info(
        "run %s is published as %s; removed %d files and directories, logs and curves kept: %s",
        *(run, published, len(removed), ", ".join(map(str, kept)) or "none"),
    )
    return RunEnd(job=job.name, was=status.phase, removed=[*map(str, removed)], kept=[*map(str, kept)])


def _look(config: ModelConfig, ds: str, run: str) -> tuple[BackEndClient, JobDirectory, JobStatus]:
    section = (config.airflow or AirflowSection()).back_end
    client = client_of(section, project_dir())
    job = JobDirectory(work_dir(), job_id(config.name, check_ds(ds), check_name("run", run)))
    return client, job, client.status(job)
