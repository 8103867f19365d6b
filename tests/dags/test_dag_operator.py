"""The operator, with real processes: results, exit codes, credentials, and no orphans whatever happens."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from persia_core.exit_codes import ExitCode, is_retryable
from tests.support.waiting import gone, wait_for

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
SECRET = "not-for-anyone-7f3a"

# Stands in for `persia`: does what its first argument says.
PROGRAM = """
import json, os, pathlib, subprocess, sys, time
what, *rest = sys.argv[1:]
result_file = pathlib.Path(sys.argv[sys.argv.index("--result-file") + 1])
if what == "result":
    print("one"); print("two")
    result_file.write_text(json.dumps({"arguments": rest[:-2], "cwd": os.getcwd()}))
elif what == "environment":
    result_file.write_text(json.dumps(dict(os.environ)))
elif what == "exit":
    print(f"error: shard 3 is broken\\n  what to do: mend shard 3", file=sys.stderr)
    sys.exit(int(rest[0]))
elif what == "signal":
    os.kill(os.getpid(), int(rest[0]))
elif what in ("hang", "leave"):
    # A child in the group, one in a session of its own, and an orphan of an orphan.
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    fork = f"import subprocess as s; print(s.Popen({sleep!r}, start_new_session=True, stdout=s.DEVNULL).pid)"
    pids = [os.getpid(), subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
    pids.append(int(subprocess.run([sys.executable, "-c", fork], stdout=subprocess.PIPE).stdout or 0))
    fresh = pathlib.Path(rest[0] + ".new")
    fresh.write_text(json.dumps(pids))
    fresh.rename(rest[0])
    while what == "hang":
        time.sleep(1)
"""

# Runs the operator as Airflow's task process does: SIGTERM calls on_kill.
DRIVER = """
import signal, sys
from tests.dags.test_dag_operator import make_operator
operator = make_operator(sys.argv[1], ["hang", sys.argv[2]])
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
operator.execute({})
"""


def make_operator(program: str, command: list[str], **kwargs: Any) -> Any:
    from persia_core.airflow.operators import PersiaOperator

    class Stub(PersiaOperator):
        pass

    Stub.program = (program,)
    return Stub(task_id="stub", command=command, **kwargs)


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    described = {
        "conn_type": "aws",
        "login": "someone",
        "password": SECRET,
        "extra": {"endpoint_url": "http://127.0.0.1:9", "region_name": "eu-west-9"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_PERSIA_S3", json.dumps(described))


def test_the_result_file_is_what_the_task_returns(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIA_PROJECT", str(tmp_path))
    result = make_operator(program, ["result", "", "--config", "a b;c.yaml"]).execute({})
    assert result == {"arguments": ["--config", "a b;c.yaml"], "cwd": str(tmp_path)}


def test_no_result_file_is_no_error(program: str) -> None:
    assert make_operator(program, ["exit", "0"]).execute({}) is None


def test_the_output_reaches_the_log_line_by_line(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_operator(program, ["result"]).execute({})
    lines = capsys.readouterr().out.splitlines()
    entries = [re.sub(r".*\[info +\] (\S+) .*", r"\1", line) for line in lines]
    assert [entry for entry in entries if entry in ("one", "two")] == ["one", "two"]


@pytest.mark.parametrize(
    "code", [code for code in ExitCode if code != ExitCode.OK], ids=lambda code: code.name
)
def test_an_exit_code_decides_whether_a_retry_makes_sense(program: str, code: ExitCode) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    with pytest.raises(AirflowException) as caught:
        make_operator(program, ["exit", str(int(code))]).execute({})
    assert isinstance(caught.value, AirflowFailException) is not is_retryable(code)
    assert code.name in str(caught.value)
    assert str(caught.value).splitlines()[-1] == "shard 3 is broken; what to do: mend shard 3"


def test_death_by_a_signal_is_worth_a_retry(program: str) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    with pytest.raises(AirflowException, match="137") as caught:
        make_operator(program, ["signal", str(int(signal.SIGKILL))]).execute({})
    assert not isinstance(caught.value, AirflowFailException)


def test_credentials_travel_by_environment_only(
    program: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = {
        "conn_type": "http",
        "host": "gateway",
        "port": 9091,
        "login": "ada",
        "password": f"{SECRET}-2",
    }
    monkeypatch.setenv("AIRFLOW_CONN_PERSIA_PUSHGATEWAY", json.dumps(gateway))
    environment = make_operator(program, ["environment"]).execute({})
    assert environment["PERSIA_PUSHGATEWAY"] == "http://gateway:9091"
    assert environment["PERSIA_PUSHGATEWAY_USER"] == "ada"
    assert environment["PERSIA_PUSHGATEWAY_PASSWORD"] == f"{SECRET}-2"
    assert environment["AWS_ACCESS_KEY_ID"] == "someone"
    assert environment["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert environment["AWS_DEFAULT_REGION"] == "eu-west-9"
    assert environment["PERSIA_S3_ENDPOINT"] == "http://127.0.0.1:9"
    assert not [name for name in environment if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__"))]
    log = "".join(capfd.readouterr())
    assert "persia environment" in log
    assert SECRET not in log


def test_without_the_connection_the_environment_is_left_alone(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_PERSIA_S3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-outside")
    environment = make_operator(program, ["environment"]).execute({})
    assert environment["AWS_ACCESS_KEY_ID"] == "from-outside"
    assert "PERSIA_S3_ENDPOINT" not in environment


def test_processes_that_outlive_the_command_are_ended(program: str, tmp_path: Path) -> None:
    pids_file = tmp_path / "pids"
    make_operator(program, ["leave", str(pids_file)]).execute({})
    assert gone(json.loads(pids_file.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_killing_the_task_leaves_no_orphan(program: str, tmp_path: Path, number: signal.Signals) -> None:
    pids_file = tmp_path / "pids"
    with (tmp_path / "log").open("wb") as log:
        task = subprocess.Popen(
            [sys.executable, "-c", DRIVER, program, str(pids_file)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        pids = json.loads(wait_for(lambda: pids_file.exists() and pids_file.read_text(), "the command", 60.0))
        assert len(pids) == 4
        assert not gone(pids)
        task.send_signal(number)
        wait_for(lambda: gone(pids), f"end of {pids}", 60.0)
        task.wait(timeout=60)
    finally:
        task.kill()
    if number == signal.SIGTERM:
        assert "TERMINATED" in (tmp_path / "log").read_text()


def test_the_guard_ends_a_command_that_ignores_sigterm(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    stubborn = (
        "import os, pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1] + '.new').write_text(str(os.getpid()))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    guard = subprocess.Popen(
        [sys.executable, "-m", "persia_core.launch.guard", sys.executable, "-c", stubborn, str(pid_file)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
    )
    try:
        pid = int(wait_for(lambda: pid_file.exists() and pid_file.read_text(), "the command", 60.0))
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(timeout=60) == ExitCode.TERMINATED
        assert gone([pid])
    finally:
        guard.kill()
