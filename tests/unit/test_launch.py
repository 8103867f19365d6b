"""The command that starts a job."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from persia_core.embedding.server import server_program
from persia_core.exit_codes import ExitCode
from persia_core.launch.ending import processes_of
from persia_core.launch.failure import failure_of
from persia_core.launch.job import Job
from persia_core.launch.mpi import mpi_command
from persia_core.phases import RUN_DIR_VARIABLE
from tests.support.small_config import small_config


def job_in(run_dir: Path, **cluster: int) -> Job:
    return Job(
        id="job", config=small_config(cluster=cluster).model_dump(), ds="2026-01-01", run_dir=run_dir,
        partition_dir=run_dir, parent_dir=None, parent=None, hashed_digest="",
    )  # fmt: skip


def command_of(**cluster: int) -> list[str]:
    return mpi_command(job_in(Path("/nowhere"), **cluster), Path("/nowhere/heartbeats"))


def test_servers_are_told_their_threads_and_their_limit() -> None:
    command = command_of(servers=2, server_threads=3, trainers=4, max_buffered_bytes=5 << 30)
    servers = command[1 : command.index(":")]
    assert servers[:2] == ["-n", "2"] and str(server_program()) in servers
    assert servers[servers.index("--threads") + 1] == "3"
    assert servers[servers.index("--max-buffered-bytes") + 1] == str(5 << 30)
    assert servers[servers.index("--workers-per-rank") + 1] == "1"
    assert servers[servers.index("--priority") + 1] == "normal"
    assert command[command.index(":") + 1 :][:2] == ["-n", "4"]


def test_embedding_workers_are_ranks_between_servers_and_trainers() -> None:
    command = command_of(servers=2, embedding_workers=3, trainers=7)
    first = command.index(":")
    second = command.index(":", first + 1)
    servers, workers, trainers = command[1:first], command[first + 1 : second], command[second + 1 :]
    assert servers[servers.index("--workers-per-rank") + 1] == "3", (
        "the first of them serves trainers 0, 3 and 6"
    )
    program = [sys.executable, "-m", "persia_core.worker.main", "/nowhere/job.json"]
    assert (workers[:2], workers[-6:]) == (["-n", "3"], ["embedding worker", "2", *program])
    program = [sys.executable, "-m", "persia_core.training.main", "/nowhere/job.json"]
    assert (trainers[:2], trainers[-6:]) == (["-n", "7"], ["trainer", "5", *program])


# What Open MPI prints; the server that mpiexec ends after the killed rank may come first.
KILLED = """
MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD
  Errorcode: 143
prterun has exited due to process rank 0 with PID 0 on node vm calling
"abort". This may have caused other processes in the application to be
terminated by signals sent by prterun (as reported here).
 persia-embedding-server rank 0 on vm: ended by SIGTERM
prterun noticed that process rank {rank} with PID 23365 on node vm exited on
signal 9 (Killed).
"""


@pytest.mark.parametrize(
    ("rank", "role"),
    [(0, "embedding server 0"), (1, "embedding worker 0"), (2, "embedding worker 1"), (4, "trainer 1")],
)
def test_the_rank_that_was_killed_is_named_and_not_one_that_ended_with_it(
    tmp_path: Path, rank: int, role: str
) -> None:
    (tmp_path / "job.log").write_text(KILLED.format(rank=rank))
    error = failure_of(job_in(tmp_path, embedding_workers=2, trainers=3), 137, lambda rank, at: 0.0).error
    assert error.what == f"{role} (rank {rank}) was ended by signal 9"
    assert error.exit_code == ExitCode.RANK_FAILED


def test_a_job_of_another_home_is_not_taken_for_ours(tmp_path: Path) -> None:
    # The same model, day and run: what two homes of one host have in common.
    ours, other = (tmp_path / home / "work" / "model" / "ds=2026-01-01" / "run" for home in ("a", "b"))
    environment = {**os.environ, RUN_DIR_VARIABLE: str(ours)}
    with subprocess.Popen(["sleep", "600"], env=environment) as process:
        try:
            # Its program has begun, but the kernel may not have put its environment in place yet.
            while not Path(f"/proc/{process.pid}/environ").read_bytes():
                assert process.poll() is None
            assert list(processes_of(ours)) == [process.pid]
            assert list(processes_of(other)) == []
        finally:
            process.kill()
