"""Servers and trainers as ranks of a real MPI job."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from persia_core.embedding.server import server_program
from persia_core.launch.mpi import MPI_ENVIRONMENT

pytestmark = pytest.mark.mpi

MPIEXEC = Path(sys.executable).parent / "mpiexec"
ENVIRONMENT = os.environ | MPI_ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parent)}


def environment(directory: Path) -> dict[str, str]:
    """Shared memory segments go to the test's directory: those of killed ranks stay behind."""
    return ENVIRONMENT | {"OMPI_MCA_btl_sm_backing_directory": str(directory)}


def run_job(directory: Path, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MPIEXEC, *arguments],
        env=environment(directory),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_two_servers_and_two_trainers_agree_with_the_reference(tmp_path: Path) -> None:
    script = str(Path(__file__).parent / "mpi_job.py")
    job = run_job(
        tmp_path, "-n", "2", str(server_program()), "--threads", "2",
        ":", "-n", "2", sys.executable, script, str(tmp_path),
    )  # fmt: skip
    assert job.returncode == 0, job.stderr
    saved = json.loads((tmp_path / "saved.json").read_text())
    parts = [load_file(tmp_path / entry["name"]) for entry in saved["saved"]]
    for name in ("small", "wide"):
        found: dict[int, np.ndarray] = {}
        for part in parts:
            found |= dict(zip(map(int, part[f"{name}.ids"]), part[f"{name}.weights"], strict=True))
        expected: dict[int, np.ndarray] = {}
        for trainer in range(2):
            rows = np.load(tmp_path / f"{name}-{trainer}.npz")
            expected |= dict(zip(map(int, rows["ids"]), rows["weights"], strict=True))
        assert found.keys() == expected.keys()
        for key, weights in expected.items():
            np.testing.assert_allclose(found[key], weights, rtol=1e-6, atol=1e-7)
    for stats in saved["stats"]:
        assert stats["errors"] == {}
        assert stats["threads"] == 2
        assert stats["requests"]["LOOKUP"] == stats["requests"]["UPDATE"] == 10
        assert stats["staleness"] == {"max": 1, "histogram": {"1": 10}}


def test_help_and_version_need_no_mpi() -> None:
    for flag in ("--help", "--version"):
        result = subprocess.run(
            [server_program(), flag], capture_output=True, text=True, timeout=20, check=False
        )
        assert result.returncode == 0
        assert "persia-embedding-server" in result.stdout
    for wrong, named in (
        (["--nonsense"], "--nonsense"),
        (["--threads"], "--threads needs a number"),
        (["--threads", "0"], "must be from 1 to 256"),
        (["--threads", "2x"], "must be from 1 to 256, not 2x"),
    ):
        result = subprocess.run(
            [server_program(), *wrong], capture_output=True, text=True, timeout=20, check=False
        )
        assert result.returncode == 2
        assert named in result.stderr


def test_a_silent_server_is_named_and_the_job_ends(tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(
        "from mpi4py import MPI\n"
        "from persia_core import _native\n"
        "from reference import make_table\n"
        "worker = _native.EmbeddingWorker(transport='mpi', servers=1, tables=[make_table('t', 1, 4)],\n"
        "    features=[0], trainer=0, trainers=1, staleness=1, sync=False, seed=1, timeout_s=1.0)\n"
        "try:\n"
        "    worker.configure()\n"
        "except _native.TransportError as error:\n"
        "    print(error, flush=True)\n"
        "    MPI.COMM_WORLD.Abort(31)\n"
    )
    # A Python rank that never answers stands for a server that hangs.
    silent = "import time; from mpi4py import MPI; time.sleep(120)"
    job = run_job(
        tmp_path, "-n", "1", sys.executable, "-c", silent, ":", "-n", "1", sys.executable, str(script)
    )
    assert job.returncode == 31
    assert "server rank 0: CONFIGURE: no answer within 1" in job.stdout


WAITING_TRAINER = """
import time
from mpi4py import MPI
print("ready", flush=True)
time.sleep(120)
"""


@contextmanager
def waiting_job(
    directory: Path,
) -> Iterator[tuple[subprocess.Popen[str], psutil.Process, list[psutil.Process]]]:
    """A job of one server and one idle trainer: mpiexec, the server, and all processes."""
    job = subprocess.Popen(
        [MPIEXEC, "-n", "1", server_program(), ":", "-n", "1", sys.executable, "-c", WAITING_TRAINER],
        env=environment(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    processes: list[psutil.Process] = []
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        processes = psutil.Process(job.pid).children(recursive=True)
        (server,) = [process for process in processes if Path(process.exe()).name == server_program().name]
        yield job, server, processes
    finally:
        job.kill()
        for process in processes:
            if process.is_running():
                process.kill()
        job.communicate(timeout=60)


def test_sigterm_ends_the_server_and_the_job_with_its_code(tmp_path: Path) -> None:
    with waiting_job(tmp_path) as (job, server, processes):
        server.send_signal(signal.SIGTERM)
        _, errors = job.communicate(timeout=60)
        assert job.returncode == 143
        assert "persia-embedding-server rank 0 on " in errors
        assert "SIGTERM" in errors
        assert psutil.wait_procs(processes, timeout=30)[1] == []


def test_a_server_does_not_outlive_mpiexec(tmp_path: Path) -> None:
    with waiting_job(tmp_path) as (job, server, _):
        job.kill()
        assert psutil.wait_procs([server], timeout=30)[1] == []


def test_an_idle_server_leaves_the_core_alone(tmp_path: Path) -> None:
    with waiting_job(tmp_path) as (_, server, _):
        # CPU time: a busy machine cannot make this fail. A blocked MPI_Recv would use all of a core.
        before = server.cpu_times()
        time.sleep(3)
        after = server.cpu_times()
        assert (after.user + after.system) - (before.user + before.system) < 1.0
