"""The local platform: it comes up whatever state it finds, and going down it leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from persia_core.airflow import names
from persia_core.demo.airflow_client import AirflowClient
from persia_core.errors import EnvironmentProblem, PersiaError
from persia_core.platform import Platform, down, status, up
from persia_core.platform.ports import free_port
from persia_core.platform.processes import alive, end, start, survivors
from persia_core.platform.state import load_state

ROOT = Path(__file__).parents[2]

# The real DAG with a stand-in for the `persia` command: `train` waits to be killed, `job` is the real one,
# the others succeed.
STAND_IN = """
import json, os, pathlib, subprocess, sys, time
if sys.argv[1] == "job":
    os.execv(sys.executable, [sys.executable, "-m", "persia_core.cli", *sys.argv[1:]])
result_file = pathlib.Path(sys.argv[sys.argv.index("--result-file") + 1])
if sys.argv[1] == "train":
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    pids = [os.getpid(), *(subprocess.Popen(sleep, start_new_session=own).pid for own in (False, True))]
    pathlib.Path("pids.new").write_text(json.dumps(pids))
    os.rename("pids.new", "pids")
    time.sleep(600)
result_file.write_text(json.dumps({"run": "stand-in", "version": "none"}))
"""


def _pids(file: Path) -> list[int]:
    """The process ids that a stand-in wrote, once it has."""
    text = _wait_for(lambda: file.exists() and file.read_text(), str(file))
    return [int(pid) for pid in json.loads(text)]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_for(condition: Callable[[], Any], what: str, limit_s: float = 90.0) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what}: not in {limit_s:.0f} s")


def _tree(platform: Platform) -> set[int]:
    """Every process of the platform, found by parenthood: another way than the platform's own."""
    found = set(platform.processes.values())
    for pid in list(found):
        found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose stages are the stand-in, with a platform of its own that is stopped afterwards."""
    (tmp_path / "dags").mkdir()
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN)
    prologue = (
        "from persia_core.airflow.operators import PersiaOperator\n"
        f"PersiaOperator.program = ({str(stand_in)!r},)\n"
    )
    dag = (ROOT / "dags" / "daily_retrain.py").read_text(encoding="utf-8")
    (tmp_path / "dags" / "daily_retrain.py").write_text(prologue + dag, encoding="utf-8")
    (tmp_path / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "synthetic_dlrm.yaml", tmp_path / "configs")
    monkeypatch.setenv("PERSIA_PROJECT", str(tmp_path))
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    yield tmp_path
    down()


@pytest.mark.airflow
def test_up_trouble_down(project: Path) -> None:  # noqa: PLR0915
    """One story, because every start costs many seconds: see the lines that begin a chapter."""
    # Preferred ports are taken: others are used.
    with socket.socket() as s3_taken, socket.socket() as airflow_taken:
        for taken, port in ((s3_taken, 9000), (airflow_taken, 8080)):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if not _listens(port):
                taken.bind(("127.0.0.1", port))
                taken.listen()
        platform = up()
    assert platform.fresh
    state = load_state()
    assert state is not None
    ports = [state.s3_port, state.airflow_port]
    assert not set(ports) & {9000, 8080}
    assert all(_listens(port) for port in ports)

    # Nothing listens to other machines.
    addresses = {
        connection.laddr.ip
        for pid in _tree(platform)
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}

    # A second `up` changes nothing.
    said: list[str] = []
    again = up(said.append)
    assert not again.fresh
    assert again.processes == platform.processes
    assert "already up" in said[0]

    # The endpoint is a real S3 with the bucket in it.
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=platform.env["PERSIA_S3_ENDPOINT"],
        aws_access_key_id=platform.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=platform.env["AWS_SECRET_ACCESS_KEY"],
        region_name=platform.env["AWS_DEFAULT_REGION"],
    )
    client.put_object(Bucket="persia", Key="a/b", Body=b"x")
    assert client.get_object(Bucket="persia", Key="a/b")["Body"].read() == b"x"

    # A run without a partition fails, says why, and is not tried again.
    airflow = AirflowClient(platform.airflow_url, platform.home, names.daily_retrain("synthetic_dlrm"))
    airflow.wait_for_dag()
    airflow.trigger("nameless", None, {})
    with pytest.raises(PersiaError, match="names no partition"):
        airflow.wait("nameless", 120, print)

    # A task that is failed from outside, as by a click in the UI, takes its processes with it.
    airflow.trigger("killed", "2026-11-20", {"cold_start": True})
    pids = _pids(project / "pids")
    assert all(_running(pid) for pid in pids)
    airflow.fail_task("killed", names.MPI_JOB)
    _wait_for(lambda: not any(_running(pid) for pid in pids), f"end of {pids}")
    (project / "pids").unlink()

    # A dead scheduler is noticed, and `up` starts everything anew.
    before = _tree(platform)
    os.kill(platform.processes["scheduler"], signal.SIGKILL)
    _wait_for(lambda: status() is None, "the scheduler's death")
    platform = up()
    assert platform.fresh
    assert not any(_running(pid) for pid in before)

    # Going down in the middle of a task ends the task's processes too.
    airflow = AirflowClient(platform.airflow_url, platform.home, names.daily_retrain("synthetic_dlrm"))
    airflow.wait_for_dag()
    airflow.trigger("cut_short", "2026-11-21", {})
    pids = _pids(project / "pids")
    everything = _tree(platform) | set(pids)
    state = load_state()
    assert state is not None
    down()
    assert [pid for pid in everything if _running(pid)] == []
    assert not any(_listens(port) for port in (state.s3_port, state.airflow_port))
    assert survivors(state.id, state.processes) == {}

    # Going down again is harmless.
    said.clear()
    down(said.append)
    assert said == ["The platform is not up: nothing to stop."]
    assert status() is None


def test_a_part_that_does_not_start_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dags").mkdir()
    monkeypatch.setenv("PERSIA_PROJECT", str(tmp_path))
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        "persia_core.platform.services.airflow_command",
        lambda part, state: [sys.executable, "-c", "raise SystemExit('no Airflow today')"],
    )
    with pytest.raises(EnvironmentProblem, match="no Airflow today"):
        up()
    assert load_state() is None
    assert [p.pid for p in psutil.process_iter() if str(tmp_path) in _cwd(p)] == []


def _cwd(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""


def test_up_outside_a_project_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_PROJECT", str(tmp_path))
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    with pytest.raises(EnvironmentProblem, match="dags/"):
        up()


def test_a_process_that_got_an_old_id_is_left_alone(tmp_path: Path) -> None:
    """After a restart of the machine, or of a process, the recorded id may be somebody else's."""
    ours = start(
        "ours", [sys.executable, "-c", "import time; time.sleep(600)"], os.environ, tmp_path, tmp_path / "log"
    )
    try:
        for other in (
            ours.model_copy(update={"start_ticks": ours.start_ticks - 1}),
            ours.model_copy(update={"boot_id": "00000000-0000-0000-0000-000000000000"}),
        ):
            assert not alive(other)
            assert end("nobody", [other], grace_s=0.5) == {}
            assert alive(ours)
    finally:
        os.kill(ours.pid, signal.SIGKILL)


def test_the_end_reaches_processes_that_ignore_sigterm_or_left_the_session(tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess, sys, time, json, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "pids = [os.getpid()]\n"
        "pids += [subprocess.Popen(sleep, start_new_session=own).pid for own in (False, True)]\n"
        "pathlib.Path('new').write_text(json.dumps(pids)); os.rename('new', 'pids')\n"
        "time.sleep(600)\n"
    )
    environment = os.environ | {"PERSIA_PLATFORM_ID": "test-marker"}
    leader = start("leader", [sys.executable, "-c", code], environment, tmp_path, tmp_path / "log")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        pids = _pids(tmp_path / "pids")
        assert set(survivors("test-marker", [leader])) == set(pids)
        assert end("test-marker", [leader], grace_s=1.0) == {}
        assert not any(_running(pid) for pid in pids)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_taken_port_is_not_chosen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (port, 0)
    assert free_port(port) == port
