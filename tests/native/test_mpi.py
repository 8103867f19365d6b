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


def test_many_workers_of_one_rank_do_not_take_each_others_replies(tmp_path: Path) -> None:
    script = str(Path(__file__).parent / "mpi_many_workers.py")
    job = run_job(
        tmp_path, "-n", "2", str(server_program()), "--workers-per-rank", "3",
        ":", "-n", "1", sys.executable, script, str(tmp_path / "result.json"), timeout=120,
    )  # fmt: skip
    assert job.returncode == 0, job.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["failures"] == []
    np.testing.assert_allclose(result["found"], result["expected"], rtol=1e-5, atol=1e-6)
    assert "STATS: MALFORMED: tag 10102 is of no channel" in result["beyond"], "a fourth worker"
    for stats in result["stats"]:
        assert stats["requests"]["UPDATE"] == 60
        assert stats["step"] == 20, "one step of all trainers"


def test_help_and_version_need_no_mpi() -> None:
    for flag in ("--help", "--version"):
        result = subprocess.run(
            [server_program(), flag], capture_output=True, text=True, timeout=20, check=False
        )
        assert result.returncode == 0
        assert "persia-embedding-server" in result.stdout
    for wrong, named in (
        (["--nonsense"], "--nonsense"),
        (["--threads"], "--threads needs a value"),
        (["--priority", "high"], "--priority must be normal or idle, not high"),
        (["--threads", "0"], "must be from 1 to 256"),
        (["--threads", "2x"], "must be from 1 to 256, not 2x"),
        (["--workers-per-rank", "0"], "must be from 1 to 1024"),
        (["--workers-per-rank", "1025"], "must be from 1 to 1024"),
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
        "    features=[0], trainer=0, trainers=1, staleness=1, combine=False, seed=1, timeout_s=1.0)\n"
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


STOPPED_SERVER = """
import sys, time
from pathlib import Path
import numpy as np
from mpi4py import MPI
from persia_core import _native
from reference import id_of, make_table

table = make_table("t", 1, 4)
worker = _native.EmbeddingWorker(transport="mpi", servers=1, tables=[table], features=[0], trainer=0,
    trainers=1, staleness=2, combine=False, seed=1, timeout_s=2.0)
worker.configure()
ids, offsets = [np.array([id_of(table, 5)], np.uint64)], [np.array([0, 1], np.int64)]
held = worker.lookup(0, ids, offsets, training=True)
print("ready", flush=True)
stopped, deadline = Path(sys.argv[1]), time.monotonic() + 60
while not stopped.exists():
    assert time.monotonic() < deadline
    time.sleep(0.01)
for call in (
    lambda: worker.lookup(1, ids, offsets, training=True),
    lambda: worker.update(held, [np.ones((1, 4), np.float32)], 1.0),
    lambda: worker.stats(),
    lambda: worker.lookup(2, ids, offsets, training=True),
):
    try:
        call()
    except _native.TransportError as error:
        print(error, flush=True)
print("end", flush=True)
time.sleep(120)
"""


def test_a_stopped_server_is_named_with_the_operation_that_waits_for_it(tmp_path: Path) -> None:
    flag = tmp_path / "stopped"
    with waiting_job(tmp_path, STOPPED_SERVER, str(flag)) as (job, server, _):
        server.suspend()
        flag.touch()
        assert job.stdout is not None
        said = [job.stdout.readline().strip() for _ in range(5)]
        server.resume()
    silent = "no answer within 2 s"
    assert said == [
        f"server rank 0: LOOKUP: {silent}",
        f"server rank 0: UPDATE: {silent}",
        f"server rank 0: STATS: {silent}",
        "LOOKUP: an earlier request of this worker got no answer",
        "end",
    ]


WAITING_TRAINER = """
import time
from mpi4py import MPI
print("ready", flush=True)
time.sleep(120)
"""


@contextmanager
def waiting_job(
    directory: Path, script: str | None = None, *arguments: str, threads: int = 1, priority: str = "normal"
) -> Iterator[tuple[subprocess.Popen[str], psutil.Process, list[psutil.Process]]]:
    """A job of one server and a trainer that is ready: mpiexec, the server, and all processes."""
    trainer = [sys.executable, "-c", script or WAITING_TRAINER, *arguments]
    server_command = [str(server_program()), "--threads", str(threads), "--priority", priority]
    job = subprocess.Popen(
        [MPIEXEC, "-n", "1", *server_command, ":", "-n", "1", *trainer],
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


SAVING_TRAINER = """
import sys
import numpy as np
from persia_core import _native
from reference import id_of, make_table

table = make_table("t", 1, 256, initializer={"kind": "zeros"})
worker = _native.EmbeddingWorker(transport="mpi", servers=1, tables=[table], features=[0], trainer=0,
    trainers=1, staleness=1, combine=False, seed=1, timeout_s=60.0)
worker.configure()
count = 100_000
ids = np.arange(count, dtype=np.uint64) + np.uint64(id_of(table, 0))
worker.discard(worker.lookup(0, [ids], [np.array([0, count], np.int64)], training=True))
print("ready", flush=True)
worker.save(sys.argv[1])
"""


def test_sigterm_during_a_request_lets_it_finish(tmp_path: Path) -> None:
    part, temporary = tmp_path / "embedding-0.safetensors", tmp_path / "embedding-0.safetensors.tmp"
    with waiting_job(tmp_path, SAVING_TRAINER, str(tmp_path)) as (job, server, processes):
        deadline = time.monotonic() + 60
        while not temporary.exists() and time.monotonic() < deadline:
            pass
        server.suspend()
        assert temporary.exists(), "the server was too fast: the test needs more rows"
        assert not part.exists()
        server.send_signal(signal.SIGTERM)
        server.resume()
        _, errors = job.communicate(timeout=60)
        assert job.returncode == 143
        assert "ended by SIGTERM" in errors
        assert psutil.wait_procs(processes, timeout=30)[1] == []
    assert load_file(part)["t.weights"].shape == (100_000, 256)
    assert not temporary.exists()


def test_a_server_does_not_outlive_mpiexec(tmp_path: Path) -> None:
    with waiting_job(tmp_path) as (job, server, _):
        job.kill()
        assert psutil.wait_procs([server], timeout=30)[1] == []


IDLE_TRAINER = """
import time
import numpy as np
from persia_core import _native
from reference import id_of, make_table

table = make_table("t", 1, 4)
worker = _native.EmbeddingWorker(transport="mpi", servers=1, tables=[table], features=[0], trainer=0,
    trainers=1, staleness=1, combine=False, seed=1, timeout_s=60.0)
worker.configure()
ids = np.arange(1000, dtype=np.uint64) + np.uint64(id_of(table, 0))
lookup = worker.lookup(0, [ids], [np.arange(1001, dtype=np.int64)], training=True)
worker.update(lookup, [np.ones((1000, 4), np.float32)], 1.0)
print("ready", flush=True)
time.sleep(120)
"""


def test_an_idle_server_leaves_the_cores_alone(tmp_path: Path) -> None:
    with waiting_job(tmp_path, IDLE_TRAINER, threads=2) as (_, server, _):
        assert server.num_threads() >= 2

        def used() -> float:
            times = server.cpu_times()
            return times.user + times.system

        # CPU time over time that has passed: a busy machine makes it less. A server that spins uses all of a
        # core, in every window. After its last request it first looks for the next one without pause.
        shares = []
        while len(shares) < 5 and not (shares and shares[-1] < 0.1):
            start, before = time.monotonic(), used()
            time.sleep(3)
            shares.append((used() - before) / (time.monotonic() - start))
        assert shares[-1] < 0.1, shares


@pytest.mark.parametrize(("priority", "policy"), [("normal", os.SCHED_OTHER), ("idle", os.SCHED_IDLE)])
def test_all_threads_of_a_server_run_at_its_priority(tmp_path: Path, priority: str, policy: int) -> None:
    with waiting_job(tmp_path, IDLE_TRAINER, threads=2, priority=priority) as (_, server, _):
        of_threads = {os.sched_getscheduler(thread.id) for thread in server.threads()}
        assert len(server.threads()) >= 2
        assert of_threads == {policy}
