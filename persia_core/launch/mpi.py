"""The mpiexec command of a job on this host, and watching over it until it ends."""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from persia_core.embedding.server import server_program
from persia_core.errors import EnvironmentProblem, PersiaError, RankFailed, RankHung
from persia_core.exit_codes import ExitCode
from persia_core.launch.job import JOB_FILE, Job, rank_records
from persia_core.launch.parent import end_with_parent
from persia_core.launch.roles import Roles
from persia_core.launch.segments import environment_for, segment_directory

log = logging.getLogger(__name__)

LOG_FILE = "job.log"
# The same for a job that is run again; unlike its id, another one for every PERSIA_HOME of the host.
RUN_DIR_VARIABLE = "PERSIA_RUN_DIR"
END_WITHIN_S = 10.0

MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_btl": "self,sm",
    "PYTHONUNBUFFERED": "1",
}
# Words of mpiexec, which breaks lines anywhere. Ranks that it ends afterwards say in the log that they abort.
_SIGNALLED = re.compile(
    r"process\s+rank\s+(\d+)\s+with\s+PID\s+\d+\s+on\s+node\s+\S+\s+exited\s+on\s+signal\s+(\d+)"
)
_EXITED = re.compile(r"\[\[\d+,\d+\],(\d+)\].*?Exit code:\s+(\d+)", re.DOTALL)


def mpi_command(job: Job) -> list[str]:
    """Servers first, then embedding workers, then trainers, in one MPMD job.

    Raises EnvironmentProblem if a program is missing.
    """
    config = job.resolved()
    roles = Roles.of(config.cluster)
    job_file = str(job.run_dir / JOB_FILE)
    workers = [
        ":",
        "-n",
        str(roles.embedding_workers),
        sys.executable,
        "-m",
        "persia_core.worker.main",
        job_file,
    ]
    return [
        _program("mpiexec"),
        *("-n", str(config.cluster.servers), str(server_program())),
        *("--threads", str(config.cluster.server_threads)),
        *("--workers-per-rank", str(config.cluster.workers_per_rank)),
        *("--max-buffered-bytes", str(config.cluster.max_buffered_bytes)),
        *("--priority", config.cluster.embedding_priority),
        *(workers if roles.embedding_workers else []),
        *(":", "-n", str(roles.trainers), sys.executable, "-m", "persia_core.training.main", job_file),
    ]


def run_job(job: Job) -> None:
    """Run the job to its end, passing its output on line by line and keeping it in job.log.

    Raises what the first failing rank said (with its exit code), RankFailed when a rank was killed,
    RankHung when the job exceeds `cluster.job_timeout_s`. On every way out no rank is left.
    """
    (job.run_dir / JOB_FILE).write_text(job.model_dump_json())
    command = mpi_command(job)
    with segment_directory() as segments:
        environment = {
            **os.environ,
            **MPI_ENVIRONMENT,
            **environment_for(segments),
            RUN_DIR_VARIABLE: str(job.run_dir),
        }
        code = _run_ranks(job, command, environment)
    if code != 0:
        raise failure_of(job, code)


def _run_ranks(job: Job, command: list[str], environment: dict[str, str]) -> int:
    """The exit code of mpiexec, after which no rank is left."""
    limit = job.resolved().cluster.job_timeout_s
    log.info("starting: %s", " ".join(command))
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - a prctl call only
    )
    relay = threading.Thread(target=_relay, args=(process, job.run_dir / LOG_FILE), daemon=True)
    relay.start()
    try:
        code = process.wait(timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise RankHung(
            f"job {job.id} did not end within {limit:.0f} s",
            "look for a slow rank in its log, or raise cluster.job_timeout_s",
        ) from error
    finally:
        _end(process, job.run_dir)
        relay.join(timeout=END_WITHIN_S)
    return code


def _program(name: str) -> str:
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise EnvironmentProblem(f"{name} is not installed beside {sys.executable}", "run make setup")
    return found


def _relay(process: "subprocess.Popen[str]", path: Path) -> None:
    with path.open("w") as file:
        for line in process.stdout or ():
            file.write(line)
            file.flush()
            sys.stderr.write(line)  # ranks put time and name in front of their lines themselves


def _end(process: "subprocess.Popen[str]", run_dir: Path) -> None:
    """End mpiexec, then whatever still carries the run directory in its environment."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=END_WITHIN_S / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    deadline = time.monotonic() + END_WITHIN_S / 2
    while survivors := list(processes_of(run_dir)):
        late = time.monotonic() > deadline
        for pid in survivors:
            _signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.1)


def processes_of(run_dir: Path) -> Iterator[int]:
    """Live processes of this host that were started for the job of `run_dir`, except the caller."""
    marker = f"{RUN_DIR_VARIABLE}={run_dir}".encode()
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        try:
            if marker in (directory / "environ").read_bytes().split(b"\0"):
                yield int(directory.name)
        except OSError:
            continue  # it has ended, or is not ours


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def failure_of(job: Job, code: int) -> PersiaError:
    """The error of the rank that failed first, as well as it can be told."""
    output = (job.run_dir / LOG_FILE).read_text(errors="replace")
    roles = Roles.of(job.resolved().cluster)
    remedy = f"read {job.run_dir / LOG_FILE}; the task can be run again: nothing was published"
    for record in rank_records(job.run_dir):
        if record.exit_code is not None and record.exit_code != int(ExitCode.RANK_FAILED):
            return _as_error(
                ExitCode(record.exit_code),
                f"{record.role} on {record.host}: {record.what}",
                record.remedy or remedy,
            )
    if found := _SIGNALLED.search(output):
        rank, number = int(found[1]), int(found[2])
        return RankFailed(f"{roles.name(rank)} (rank {rank}) was ended by signal {number}", remedy)
    for record in rank_records(job.run_dir):
        if record.exit_code is not None:
            return RankFailed(f"{record.role} on {record.host}: {record.what}", remedy)
    if found := _EXITED.search(output):
        rank = int(found[1])
        return RankFailed(f"{roles.name(rank)} (rank {rank}) ended with exit code {found[2]}", remedy)
    return RankFailed(f"job {job.id} ended with exit code {code}", remedy)


def _as_error(code: ExitCode, what: str, remedy: str) -> PersiaError:
    error = PersiaError(what, remedy)
    error.exit_code = code
    return error
