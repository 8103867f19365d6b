"""The training operator with real jobs of this host: one job however often it is asked for, and no orphan."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from persia_core.exit_codes import ExitCode
from persia_core.launch import supervise
from persia_core.launch.backends.interface import Phase
from persia_core.launch.backends.local import LocalBackEndClient
from persia_core.launch.job_directory import JobDirectory, JobSpec
from tests.support.waiting import gone, wait_for

pytestmark = pytest.mark.airflow

NAME = "m-2026-11-20-run-0"

# Stands in for `persia train`: notes each start, writes with the ranks' prefixes, and waits until it may go.
PROGRAM = """
import json, os, pathlib, subprocess, sys, time
here = pathlib.Path(sys.argv[1])
result = pathlib.Path(sys.argv[sys.argv.index("--result-file") + 1])
with (here / "starts").open("a") as file:
    file.write(f"{os.getpid()}\\n")
print("12:00:00 [trainer 0] step 1", flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
(here / "pids.new").write_text(json.dumps([os.getpid(), child.pid]))
(here / "pids.new").rename(here / "pids")
while not (here / "go").exists():
    time.sleep(0.05)
child.kill(); child.wait()
print("12:00:01 [trainer 1] done", flush=True)
code = int((here / "go").read_text() or 0)
if code:
    print("error: rank 3 died\\n  what to do: run it again", file=sys.stderr)
else:
    result.write_text(json.dumps({"run": "run-0", "secret": os.environ.get("AWS_SECRET_ACCESS_KEY")}))
sys.exit(code)
"""

# Runs the operator as Airflow's task process does: SIGTERM calls on_kill.
DRIVER = """
import json, signal, sys
from tests.dags.test_dag_training import make_operator
operator = make_operator(sys.argv[1], sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
print("RESULT" + json.dumps(operator.execute({})), flush=True)
"""


def make_operator(program: str, here: str, **options: Any) -> Any:
    from persia_core.airflow.training import MPITrainingOperator

    class Stub(MPITrainingOperator):
        pass

    Stub.program = (program,)
    return Stub(task_id="stub", command=[here], job=NAME, back_end={"kind": "local"}, **options)


class Place:
    """A working directory with one job in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.program = root / "program.py"
        self.program.write_text(PROGRAM)
        self.job = JobDirectory(root / "home" / "work", NAME)
        self.client = LocalBackEndClient()

    def driver(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", DRIVER, str(self.program), str(self.root)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def submit(self) -> str:
        arguments = (str(self.program), str(self.root), "--result-file", str(self.job.result_file))
        return self.client.submit(self.job, JobSpec(arguments, str(self.root)), os.environ)

    def pids(self) -> list[int]:
        file = self.root / "pids"
        return list(json.loads(wait_for(lambda: file.exists() and file.read_text(), "the job's start")))

    def go(self, code: int = 0) -> None:
        fresh = self.root / "go.new"
        fresh.write_text(str(code))
        fresh.rename(self.root / "go")

    def starts(self) -> int:
        return len((self.root / "starts").read_text().splitlines())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv(
        "AIRFLOW_CONN_PERSIA_S3", json.dumps({"conn_type": "aws", "login": "a", "password": "s3cret"})
    )
    made = Place(tmp_path)
    yield made
    made.client.cancel(made.job)


def test_a_task_that_dies_is_replaced_by_one_that_finds_the_same_job(place: Place) -> None:
    first = place.driver()
    pids = place.pids()
    first.kill()  # as when the machine of a worker loses power for the task, and the job goes on
    first.wait()
    second = place.driver()
    wait_for(
        lambda: "running already" in (second.stdout.readline() if second.stdout else ""), "the second try"
    )
    assert not gone(pids)
    place.go()
    said = second.communicate()[0]
    assert second.returncode == 0, said
    result = json.loads(said.rpartition("RESULT")[2])
    assert result == {"run": "run-0", "secret": "s3cret"}
    assert place.starts() == 1
    assert "[trainer 0] step 1" in said  # what was said before it came
    assert "[trainer 1] done" in said
    assert "s3cret" not in said.partition("RESULT")[0]
    assert "s3cret" not in "".join(p.read_text() for p in place.job.path.iterdir() if p.name != "result.json")


def test_a_task_that_is_stopped_lets_go_and_the_job_ends_if_nobody_comes(place: Place) -> None:
    task = place.driver()
    pids = place.pids()
    task.send_signal(signal.SIGTERM)
    task.communicate()
    assert task.returncode != 0
    assert place.client.status(place.job).phase is Phase.RUNNING  # another try may take it over
    os.utime(place.job.path / "abandoned", (0, 0))  # long ago
    wait_for(lambda: gone(pids), f"the end of {pids}")
    wait_for(lambda: not place.client.status(place.job).active, "the end of the job")
    assert place.client.status(place.job).exit_code == ExitCode.TERMINATED


def test_a_job_that_was_let_go_is_taken_over(place: Place) -> None:
    place.submit()
    pids = place.pids()
    place.client.abandon(place.job)
    assert "running already" in place.submit()
    assert place.job.abandoned_for_s() is None
    place.go()
    wait_for(lambda: not place.client.status(place.job).active, "the end of the job")
    assert place.client.status(place.job).exit_code == 0
    assert gone(pids)


def test_ending_a_job_ends_every_process_of_it(place: Place) -> None:
    place.submit()
    pids = place.pids()
    place.client.cancel(place.job)
    assert gone(pids)
    assert place.client.status(place.job).exit_code == ExitCode.TERMINATED
    place.client.cancel(place.job)  # ending nothing is no error


def test_a_killed_supervisor_leaves_no_process_and_the_job_can_be_started_again(place: Place) -> None:
    place.submit()
    pids = place.pids()
    supervisor = [p.pid for p in psutil.process_iter() if _is_supervisor(p, str(place.job.path))]
    assert len(supervisor) == 1
    os.kill(supervisor[0], signal.SIGKILL)
    wait_for(lambda: gone(pids), f"the end of {pids}")
    wait_for(lambda: not place.job.locked(), "the lock")
    assert place.client.status(place.job).phase is Phase.LOST
    (place.root / "pids").unlink()
    place.go()
    assert place.submit().startswith("started")
    wait_for(lambda: not place.client.status(place.job).active, "the end of the job")
    assert place.client.status(place.job).exit_code == 0
    assert place.starts() == 2


def _is_supervisor(process: psutil.Process, directory: str) -> bool:
    try:
        line = process.cmdline()
    except psutil.Error:
        return False
    return supervise.__name__ in line and directory in line


def test_of_many_submissions_at_once_one_starts_the_job(place: Place) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.dags.test_dag_training import Place\n"
        "print(Place(Path(sys.argv[1])).submit())"
    )
    command = [sys.executable, "-c", code, str(place.root)]
    tries = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0] for process in tries]
    assert sorted("started" in words for words in said) == [False, False, True]
    place.pids()
    place.go()
    wait_for(lambda: not place.client.status(place.job).active, "the end of the job")
    assert place.starts() == 1


@pytest.mark.parametrize("code", [ExitCode.RANK_FAILED, ExitCode.DIVERGED], ids=lambda code: code.name)
def test_the_exit_code_of_the_job_decides_about_a_retry(place: Place, code: ExitCode) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    place.go(int(code))
    with pytest.raises(AirflowException, match=f"{code.name}.*\\n.*rank 3 died; what to do") as caught:
        make_operator(str(place.program), str(place.root)).execute({})
    assert isinstance(caught.value, AirflowFailException) is (code is ExitCode.DIVERGED)
    place.go()  # a failed job is started again, a finished one is not
    for _ in range(2):
        assert make_operator(str(place.program), str(place.root)).execute({})["run"] == "run-0"
    assert place.starts() == 2


def test_a_quiet_job_is_heard_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from persia_core.airflow import following

    monkeypatch.setattr(following, "QUIET_S", 0.0)
    place.submit()
    place.pids()
    follower = following.Follower(place.client, place.job)
    follower.skip_to_end(0)
    lines, active = follower.look()
    assert active
    assert len(lines) == 1 and NAME in lines[0] and "running for" in lines[0]


def test_output_comes_line_by_line_whatever_the_pieces(tmp_path: Path) -> None:
    from persia_core.airflow.following import Follower

    job = JobDirectory(tmp_path, NAME)
    job.path.mkdir(parents=True)
    follower = Follower(LocalBackEndClient(), job)
    seen: list[str] = []
    text = "one\ntwo é\n\nthree"
    for byte in text.encode():
        with job.output.open("ab") as file:
            file.write(bytes([byte]))
        seen += follower._new_lines(everything=False)
    assert seen == ["one", "two é", ""]
    assert follower._new_lines(everything=True) == ["three"]
