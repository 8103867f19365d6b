"""The command that starts a job."""

import os
import subprocess
from pathlib import Path

from persia_core.embedding.server import server_program
from persia_core.launch.job import Job
from persia_core.launch.mpi import RUN_DIR_VARIABLE, mpi_command, processes_of
from tests.support.small_config import small_config


def test_servers_are_told_their_threads_and_their_limit() -> None:
    cluster = {"servers": 2, "server_threads": 3, "trainers": 4, "max_buffered_bytes": 5 << 30}
    config = small_config(cluster=cluster)
    nowhere = Path("/nowhere")
    job = Job(
        id="job", config=config.model_dump(), ds="2026-01-01", run_dir=nowhere, partition_dir=nowhere,
        parent_dir=None, parent=None, hashed_digest="",
    )  # fmt: skip
    command = mpi_command(job)
    servers = command[1 : command.index(":")]
    assert servers[:3] == ["-n", "2", str(server_program())]
    assert servers[servers.index("--threads") + 1] == "3"
    assert servers[servers.index("--max-buffered-bytes") + 1] == str(5 << 30)
    assert command[command.index(":") + 1 :][:2] == ["-n", "4"]


def test_a_job_of_another_home_is_not_taken_for_ours(tmp_path: Path) -> None:
    # The same model, day and run: what two homes of one host have in common.
    ours, other = (tmp_path / home / "work" / "model" / "ds=2026-01-01" / "run" for home in ("a", "b"))
    environment = {**os.environ, RUN_DIR_VARIABLE: str(ours)}
    with subprocess.Popen(["sleep", "600"], env=environment) as process:
        try:
            assert list(processes_of(ours)) == [process.pid]
            assert list(processes_of(other)) == []
        finally:
            process.kill()
