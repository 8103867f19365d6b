"""Training jobs under a real Slurm: one per name, with exit code, end, and the task that follows it."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persia_core.config.back_end import SlurmBackEnd
from persia_core.exit_codes import ExitCode
from persia_core.launch.backends.interface import Phase
from persia_core.launch.backends.slurm import SlurmBackEndClient
from persia_core.launch.job_directory import JobDirectory, JobSpec
from tests.slurm.cluster import start_slurm, there_is_slurm
from tests.support.waiting import gone, wait_for

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not there_is_slurm(), reason="no Slurm: make slurm-tests unpacks one"),
]

ROOT = Path(__file__).parents[2]
SECTION = SlurmBackEnd(kind="slurm", partition="batch", cpus=2, memory_gb=1, time_limit_h=0.2)

# Stands in for `persia train`: says who it is, and waits until it may go.
PROGRAM = """
import json, os, pathlib, subprocess, sys, time
here = pathlib.Path(sys.argv[1])
with (here / "starts").open("a") as file:
    file.write("start\\n")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
(here / "pids.new").write_text(json.dumps([os.getpid(), child.pid]))
(here / "pids.new").rename(here / "pids")
print("12:00:00 [trainer 0] on a node of Slurm job", os.environ["SLURM_JOB_ID"], flush=True)
while not (here / "go").exists():
    time.sleep(0.05)
child.kill(); child.wait()
code = int((here / "go").read_text() or 0)
if code:
    print("error: rank 3 died\\n  what to do: run it again")
result = {"run": "r", "key": os.environ.get("AWS_SECRET_ACCESS_KEY")}
pathlib.Path(sys.argv[sys.argv.index("--result-file") + 1]).write_text(json.dumps(result))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a running Slurm."""
    cluster = start_slurm(tmp_path_factory.mktemp("slurm"))
    yield cluster.environment
    cluster.stop()


class Place:
    """A working directory with one job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "program.py").write_text(PROGRAM)
        self.job = JobDirectory(root / "home" / "work", f"m-2026-11-20-run-{root.name}")
        self.client = SlurmBackEndClient(SECTION, ROOT)
        arguments = (str(root / "program.py"), str(root), "--result-file", str(self.job.result_file))
        self.spec = JobSpec(arguments, str(root))

    def submit(self) -> str:
        return self.client.submit(self.job, self.spec, os.environ)

    def pids(self) -> list[int]:
        file = self.root / "pids"
        return list(json.loads(wait_for(lambda: file.exists() and file.read_text(), "the job's start")))

    def go(self, code: int = 0) -> None:
        (self.root / "go.new").write_text(str(code))
        (self.root / "go.new").rename(self.root / "go")

    def ended(self) -> int | None:
        wait_for(lambda: self.client.status(self.job).phase in (Phase.ENDED, Phase.LOST), "the job's end")
        return self.client.status(self.job).exit_code


@pytest.fixture
def place(slurm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("SLURM_CONF", "LD_LIBRARY_PATH", "PATH"):
        monkeypatch.setenv(name, slurm[name])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = Place(tmp_path)
    yield made
    made.client.cancel(made.job)


def test_a_job_runs_once_however_often_it_is_submitted(place: Place) -> None:
    assert place.submit().startswith("submitted as Slurm job")
    place.pids()
    assert place.client.status(place.job).phase is Phase.RUNNING
    assert "already (RUNNING), going on with it" in place.submit()
    place.go()
    assert place.ended() == 0
    assert place.job.result()["run"] == "r"
    assert "[trainer 0] on a node of Slurm job" in place.job.output.read_text()
    assert place.submit() == "has succeeded already"
    assert (place.root / "starts").read_text().count("start") == 1


def test_of_two_submissions_that_do_not_see_each_other_one_runs(place: Place) -> None:
    place.job.prepare(place.spec)
    command = place.client.command(place.job)
    for _ in range(2):  # as when both looked into the queue before either had submitted
        subprocess.run(command, check=True, capture_output=True)
    place.pids()
    place.go()
    listing = ["squeue", "--noheader", f"--name={place.job.name}", "--format=%T"]
    wait_for(lambda: not subprocess.run(listing, capture_output=True, check=True).stdout, "an empty queue")
    assert place.ended() == 0
    assert (place.root / "starts").read_text().count("start") == 1


def test_a_failed_job_says_its_exit_code_and_is_submitted_again(place: Place) -> None:
    place.go(int(ExitCode.RANK_FAILED))
    place.submit()
    assert place.ended() == ExitCode.RANK_FAILED
    place.go()
    assert place.submit().startswith("submitted")  # although squeue still lists the failed one
    assert place.ended() == 0


def test_ending_a_job_leaves_no_process(place: Place) -> None:
    place.submit()
    pids = place.pids()
    place.client.cancel(place.job)
    wait_for(lambda: gone(pids), f"the end of {pids}")
    assert place.ended() in (None, ExitCode.TERMINATED)


def test_the_task_defers_and_ends_with_the_job(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    from persia_core.airflow.training import MPITrainingOperator
    from persia_core.airflow.triggers import JobTrigger

    class Stub(MPITrainingOperator):
        pass

    secret = "not-for-anyone-7f3a"
    connection = {"conn_type": "aws", "login": "a", "password": secret}
    monkeypatch.setenv("AIRFLOW_CONN_PERSIA_S3", json.dumps(connection))
    monkeypatch.setenv("PERSIA_HOME", str(place.root / "home"))
    monkeypatch.setenv("PERSIA_PROJECT", str(ROOT))
    Stub.program = (str(place.root / "program.py"),)
    operator = Stub(
        task_id="stub",
        command=[str(place.root)],
        job=place.job.name,
        back_end=SECTION.model_dump(mode="json"),
    )
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute({})
    _, arguments = deferred.value.trigger.serialize()
    assert secret not in json.dumps(arguments)
    place.pids()
    place.go()

    async def first_event() -> Any:
        async for event in JobTrigger(**arguments | {"poll_s": 0.2}).run():
            return event.payload
        return None

    payload = asyncio.run(first_event())
    assert operator.resume({}, payload) == {"run": "r", "key": secret}
    said = capsys.readouterr().out
    assert "[trainer 0] on a node of Slurm job" in said
    assert secret not in said
