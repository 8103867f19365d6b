"""The mpiexec command of a job on this host, and watching over it until it ends."""

import logging
import os
import select
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

from persia_core.embedding.server import server_program
from persia_core.errors import EnvironmentProblem, RankHung
from persia_core.launch.ending import end_job
from persia_core.launch.failure import LOG_FILE, Failure, failure_of, hung
from persia_core.launch.heartbeat import HeartbeatWatch
from persia_core.launch.job import JOB_FILE, Job
from persia_core.launch.parent import end_with_parent
from persia_core.launch.rank_process import (
    LOG_LINES,
    heartbeat_directory,
    last_lines,
    prepare,
    rank_processes,
    with_parent,
)
from persia_core.launch.roles import Roles
from persia_core.launch.segments import environment_for, segment_directory
from persia_core.launch.table_segments import TableSegments
from persia_core.phases import RUN_DIR_VARIABLE

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
# mpiexec ends a job of which a rank has failed; if it has not done so by then, we do.
MPIEXEC_NOTICES_WITHIN_S = 2.0
RELAY_ENDS_WITHIN_S = 5.0

MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_btl": "self,sm",
    "PYTHONUNBUFFERED": "1",
}


def mpi_command(job: Job, heartbeats: Path) -> list[str]:
    """Servers first, then embedding workers, then trainers, in one MPMD job; each rank under its parent.

    `heartbeats` is the directory for their heartbeats. Raises EnvironmentProblem if a program is missing.
    """
    config = job.resolved()
    cluster = config.cluster
    roles = Roles.of(cluster)
    segments = TableSegments(config, job.run_dir).directory
    job_file = str(job.run_dir / JOB_FILE)
    server = [
        str(server_program()),
        *("--threads", str(cluster.server_threads)),
        *("--workers-per-rank", str(cluster.workers_per_rank)),
        *("--max-buffered-bytes", str(cluster.max_buffered_bytes)),
        *("--priority", cluster.embedding_priority),
        *(("--segments", str(segments)) if segments is not None else ()),
    ]
    worker = [sys.executable, "-m", "persia_core.worker.main", job_file]
    trainer = [sys.executable, "-m", "persia_core.training.main", job_file]
    command = [_program("mpiexec")]
    for role, count, first_rank, program in (
        (Roles.SERVER, roles.servers, 0, server),
        (Roles.WORKER, roles.embedding_workers, roles.rank_of_worker(0), worker),
        (Roles.TRAINER, roles.trainers, roles.rank_of_trainer(0), trainer),
    ):
        if count:
            separator = [":"] if len(command) > 1 else []
            ranks = with_parent(job.run_dir, heartbeats, role, first_rank, program)
            command += [*separator, "-n", str(count), *ranks]
    return command


def run_job(job: Job) -> None:
    """Run the job to its end, passing its output on line by line and keeping it in job.log.

    Raises what the rank that failed first said (with its exit code), RankFailed when a rank died without a
    word, RankHung when one gives no sign of life any more or the job exceeds `cluster.job_timeout_s`. Before
    that, it logs what that rank said last. On every way out no rank is left.
    """
    prepare(job.run_dir)
    (job.run_dir / JOB_FILE).write_text(job.model_dump_json())
    with segment_directory() as segments:
        heartbeats = heartbeat_directory(job.run_dir, segments)
        environment = {
            **os.environ,
            **MPI_ENVIRONMENT,
            **environment_for(segments),
            RUN_DIR_VARIABLE: str(job.run_dir),
        }
        failure = _run_ranks(job, mpi_command(job, heartbeats), heartbeats, environment)
    if failure is not None:
        _show_log(job, failure)
        failure.error.role = failure.role
        raise failure.error


def _run_ranks(job: Job, command: list[str], heartbeats: Path, environment: dict[str, str]) -> Failure | None:
    """Why the job failed, or None if it did not. On return no rank is left."""
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
    cluster = job.resolved().cluster
    watch = HeartbeatWatch(
        heartbeats,
        Roles.of(cluster).ranks,
        cluster.heartbeat_timeout_s,
        cluster.start_timeout_s,
    )
    code: int | None = None  # of an mpiexec that has ended before it was told to
    try:
        failure = _watch(job, process, watch, time.monotonic() + cluster.job_timeout_s)
        code = process.poll()
    finally:
        end_job(process, job.run_dir)
        relay.join(timeout=RELAY_ENDS_WITHIN_S)
    if failure is not None or code == 0:
        return failure
    return failure_of(job, code, lambda rank, at: at - watch.last_seen(rank))


def _watch(
    job: Job, process: "subprocess.Popen[str]", watch: HeartbeatWatch, deadline: float
) -> Failure | None:
    """Return when mpiexec has ended or is to be ended; a Failure if it is for a rank that hangs."""
    ended = select.poll()
    descriptor = os.pidfd_open(process.pid)
    ended.register(descriptor, select.POLLIN)
    failed_since: float | None = None
    try:
        while not ended.poll(1000 * LOOK_EVERY_S):
            now = time.monotonic()
            if failed_since is not None:
                if now - failed_since > MPIEXEC_NOTICES_WITHIN_S:
                    return None
                continue
            watch.look()
            over = {each.rank: each.status for each in rank_processes(job.run_dir) if each.status is not None}
            if any(status != 0 for status in over.values()):
                failed_since = now
            elif silent := [rank for rank in watch.silent() if rank not in over]:
                return hung(job, silent[0], now - watch.last_seen(silent[0]))
            elif now > deadline:
                limit = job.resolved().cluster.job_timeout_s
                what = f"job {job.id} did not end within {limit:.0f} s"
                remedy = "look for a slow rank in its log, or raise cluster.job_timeout_s"
                return Failure(RankHung(what, remedy), None)
        process.wait()
        return None
    finally:
        os.close(descriptor)


def _program(name: str) -> str:
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise EnvironmentProblem(f"{name} is not installed beside {sys.executable}", "run make setup")
    return found


def _relay(process: "subprocess.Popen[str]", path: Path) -> None:
    unwritten = 0
    with path.open("w", buffering=1) as file:
        for line in process.stdout or ():
            try:
                file.write(line)
            except OSError:  # a full disk: the ranks must not wait for us
                unwritten += 1
            sys.stderr.write(line)  # ranks put time and name in front of their lines themselves
    if unwritten:
        log.warning("%d lines could not be written to %s", unwritten, path)


def _show_log(job: Job, failure: Failure) -> None:
    if failure.role is None:
        return
    lines = last_lines(job.run_dir, failure.role)
    if not lines:
        log.error("%s has said nothing", failure.role)
        return
    which = f"last {LOG_LINES} lines" if len(lines) == LOG_LINES else "lines"
    log.error("the %s of %s:\n%s", which, failure.role, "\n".join(f"  | {line}" for line in lines))
