"""The operator that submits the hash stage, with a program in the place of spark-submit.

The real one: tests/spark/test_submitted_hash.py.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from persia_core.exit_codes import ExitCode, is_retryable
from tests.support.waiting import gone, wait_for

pytestmark = [pytest.mark.airflow, pytest.mark.spark]  # Java is looked for

ROOT = Path(__file__).parents[2]
SECRET = "not-for-anyone-7f3a"
ARGUMENTS = ["--config", "a b.yaml", "--ds", "2026-11-20"]

# What the environment says is done: end with that code; or start two children, one in a session of its own,
# say which processes these are, and wait.
PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, subprocess, sys, time
what = os.environ["STUB"]
if what.isdigit():
    print("26/11/20 12:00:00 WARN Something: of Spark")
    print("error: shard 3 is broken\\n  what to do: mend shard 3", file=sys.stderr)
    pathlib.Path(sys.argv[sys.argv.index("--result-file") + 1]).write_text(
        json.dumps({{"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd()}})
    )
    sys.exit(int(what))
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
pids = [os.getpid(), subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
pathlib.Path(what + ".new").write_text(json.dumps(pids))
os.rename(what + ".new", what)
time.sleep(600)
"""

# As Airflow's task process does: SIGTERM calls on_kill.
DRIVER = """
import signal
from tests.dags.test_dag_spark_submit import make_operator
operator = make_operator()
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
operator.execute({})
"""


def make_operator(**options: Any) -> Any:
    from persia_core.airflow.spark_submit import HashSubmitOperator

    return HashSubmitOperator(
        task_id="stub", conn_id="stub_spark", application_args=ARGUMENTS, **{"name": "stub"} | options
    )


def connect(monkeypatch: pytest.MonkeyPatch, **described: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STUB_SPARK", json.dumps({"conn_type": "spark"} | described))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "spark-submit"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PERSIA_PROJECT", str(tmp_path))
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STUB", "0")
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)  # which a session in this process sets
    credentials = {"conn_type": "aws", "login": "someone", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_PERSIA_S3", json.dumps(credentials))
    connect(monkeypatch, host="local[1]")


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


@pytest.mark.parametrize("master", ["yarn", "local[1]"])
def test_where_it_is_submitted_and_with_what_is_no_secret_of_arguments(
    master: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    connect(monkeypatch, host=master, extra={"queue": "nightly", "deploy-mode": "client"})
    result = make_operator(conf={"spark.executor.memory": "3g", "spark.driver.memory": "5g"}).execute({})
    argv, environment = result["argv"], result["env"]
    assert (option(argv, "--master"), option(argv, "--queue")) == (master, "nightly")
    settings = dict(argv[n + 1].split("=", 1) for n, word in enumerate(argv) if word == "--conf")
    assert settings["spark.executor.memory"] == "3g" and settings["spark.driver.memory"] == "5g"
    assert settings["spark.ui.enabled"] == "false"
    at = argv.index(str(ROOT / "spark_jobs" / "publish_partition.py"))
    assert argv[at + 1 : at + 6] == [*ARGUMENTS, "--result-file"]
    assert result["cwd"] == str(tmp_path)
    assert environment["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert environment.get("SPARK_LOCAL_IP") == ("127.0.0.1" if master == "local[1]" else None)
    assert not [name for name in environment if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__"))]
    assert SECRET not in " ".join(argv)
    said = "".join(capfd.readouterr())
    assert "of Spark" in said and SECRET not in said


@pytest.mark.parametrize(
    "code", [ExitCode.DATA_INVALID, ExitCode.STORAGE_UNAVAILABLE], ids=lambda code: code.name
)
def test_its_exit_code_decides_whether_a_retry_makes_sense(
    code: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    monkeypatch.setenv("STUB", str(int(code)))
    with pytest.raises(AirflowException) as caught:
        make_operator().execute({})
    assert isinstance(caught.value, AirflowFailException) is not is_retryable(code)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"persia hash {' '.join(ARGUMENTS)}: exit code {int(code)} ({code.name})"
    assert lines[1:] == ["shard 3 is broken; what to do: mend shard 3"]


def test_what_cannot_be_meant_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setenv("STUB", "/nowhere")
    with pytest.raises(AirflowFailException, match="client mode only"):
        make_operator(conf={"spark.submit.deployMode": "cluster"}).execute({})
    connect(monkeypatch, host="yarn", extra={"deploy-mode": "cluster"})
    with pytest.raises(
        AirflowFailException, match=r"deploy mode 'cluster'.*; what to do: set deploy-mode to"
    ):
        make_operator().execute({})
    monkeypatch.delenv("AIRFLOW_CONN_STUB_SPARK")
    with pytest.raises(AirflowFailException, match=r"CONFIG_INVALID.*\nthere is no connection stub_spark"):
        make_operator().execute({})


def test_stopping_the_task_leaves_no_orphan(tmp_path: Path) -> None:
    """By the pipe that its end would close as well, whatever ended it."""
    pids_file = tmp_path / "pids"
    task = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        env=os.environ | {"PYTHONPATH": str(ROOT), "STUB": str(pids_file)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        pids = json.loads(wait_for(lambda: pids_file.exists() and pids_file.read_text(), "the command", 60.0))
        assert len(pids) == 3 and not gone(pids)
        task.send_signal(signal.SIGTERM)
        wait_for(lambda: gone(pids), f"end of {pids}", 60.0)
        assert task.wait(timeout=60) != 0
    finally:
        task.kill()
        task.wait()
