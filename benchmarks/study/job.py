"""One MPI job of the study: a data set under a setting, several seeds one after another."""

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmarks.machine import PROJECT
from persia_core.config import ModelConfig
from persia_core.launch import mpi
from persia_core.launch.ending import processes_of
from persia_core.launch.failure import LOG_FILE
from persia_core.launch.job import JOB_FILE, Job
from persia_core.launch.parent import end_with_parent
from persia_core.launch.rank_process import heartbeat_directory, prepare
from persia_core.launch.segments import environment_for, segment_directory
from persia_core.phases import RUN_DIR_VARIABLE

log = logging.getLogger(__name__)

STUDY_FILE = "study.json"
TIMEOUT_S = 3600.0
_TRAINER, _OURS = "persia_core.training.main", "benchmarks.study.trainer"


class StudyJob(BaseModel):
    """What the trainers are told beside the job: the days, the seeds, and where one line per seed goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: list[str]
    partitions: list[Path]  # of the days, with their manifests
    seeds: list[int]
    results: Path  # JSON lines
    labels: dict[str, Any]  # that every line begins with


def run_study_job(config: ModelConfig, study: StudyJob) -> None:
    """Run all seeds; each leaves its line when it is done. Raises RuntimeError with the end of the log."""
    with tempfile.TemporaryDirectory(prefix="persia-study-") as directory:
        run_dir = Path(directory)
        job = Job(
            id=config.name,
            config=config.model_dump(mode="json"),
            ds=study.days[0],
            run_dir=run_dir,
            partition_dir=study.partitions[0],
            parent_dir=None,
            parent=None,
            hashed_digest="",
        )
        prepare(run_dir)
        (run_dir / JOB_FILE).write_text(job.model_dump_json(), encoding="utf-8")
        (run_dir / STUDY_FILE).write_text(study.model_dump_json(), encoding="utf-8")
        command = mpi.mpi_command(job, heartbeat_directory(run_dir, None))
        command = [_OURS if part == _TRAINER else part for part in command]
        with segment_directory() as segments:
            environment = {
                **os.environ,
                **mpi.MPI_ENVIRONMENT,
                **environment_for(segments),
                RUN_DIR_VARIABLE: str(run_dir),
            }
            _run(command, environment, run_dir)


def _run(command: list[str], environment: dict[str, str], run_dir: Path) -> None:
    path = run_dir / LOG_FILE
    try:
        with path.open("w", encoding="utf-8") as output:
            code = subprocess.run(
                command,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
                preexec_fn=end_with_parent,  # a prctl call only
            ).returncode
    finally:
        for pid in processes_of(run_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if code != 0:
        raise RuntimeError(
            f"a job of the study ended with {code}:\n{path.read_text(errors='replace')[-4000:]}"
        )
