"""What a day can come to, by dag.test(): approved or rejected by a person, refused by the gate or the checks.

Also what is told about it: buttons beside the tasks, alerts to a receiver over HTTP, and runs of a backfill.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from persia_core.airflow import names
from persia_core.exit_codes import ExitCode
from persia_core.handoff.local_store import LocalStore
from tests.support.airflow_pages import write_project
from tests.support.runs import small_config
from tests.support.versions import MODEL, champion_of, store_version

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
DAG = names.daily_retrain(MODEL)
DAYS = {"approved": "2026-11-02", "rejected": "2026-11-03", "gate": "2026-11-04", "checks": "2026-11-05"}
BACKFILLED = ["2026-11-06", "2026-11-07"]
SECRET = "not-for-anyone-41c7"

# Stands in for `persia`, but for `promote`, which is the real one.
PROGRAM = """
import json, os, pathlib, sys
arguments = sys.argv[1:]
if arguments[0] == "promote":
    os.execv(sys.executable, [sys.executable, "-m", "persia_core.cli", *arguments])
with open(os.environ["COMMANDS"], "a") as file:
    file.write(json.dumps(arguments) + "\\n")
versions = json.loads(os.environ["VERSIONS"])
day = arguments[arguments.index("--ds") + 1] if "--ds" in arguments else arguments[-3][:10]
result, code = {"run": "run-0", "version": versions.get(day)}, 0
if arguments[:2] == ["validate", "data"]:
    result = {"data_docs": f"data_docs/clicks/ds={day}/index.html"}
    code = DATA_REFUSED if day == "2026-11-05" else 0
if arguments[:2] == ["validate", "model"]:
    code = GATE_REFUSED if day == "2026-11-04" else 0
pathlib.Path(arguments[arguments.index("--result-file") + 1]).write_text(json.dumps(result))
if code:
    print("error: it is <worse>\\n  what to do: look at it", file=sys.stderr)
sys.exit(code)
"""

# Runs days, answers as a person who is asked, and then Airflow's own command for a backfill.
RUN = """
import asyncio, json, sys, threading, time
from persia_core.airflow.operators import PersiaOperator
PersiaOperator.program = (sys.argv[1],)
from fastapi.testclient import TestClient
from sqlalchemy import select
from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.cli.cli_parser import get_parser
from airflow.dag_processing.dagbag import DagBag
from airflow.models import DagRun, Deadline, XCom
from airflow.sdk.definitions.dag import _run_task
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState

dag_id, folder, asked, late_id = sys.argv[2], sys.argv[3], json.loads(sys.argv[4]), sys.argv[5]
backfilled = json.loads(sys.argv[6])
dag = DagBag(folder).dags[dag_id]
client = TestClient(create_app(apps="core"))
client.headers["Authorization"] = "Bearer " + get_auth_manager().generate_jwt(
    SimpleAuthManagerUser(username="ada", role="ADMIN")
)

def answer(option):
    "As the page *Required actions* does."
    while True:
        waiting = client.get(f"/api/v2/dags/{dag_id}/dagRuns/~/hitlDetails?response_received=false").json()
        parked = [d for d in waiting["hitl_details"] if d["task_instance"]["state"] == "awaiting_input"]
        if parked:
            task = parked[0]["task_instance"]
            done = client.patch(
                f"/api/v2/dags/{dag_id}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/-1/hitlDetails",
                json={"chosen_options": [option], "params_input": {}},
            )
            assert done.status_code == 200, done.text
            return
        time.sleep(0.1)

def said(run):
    "Its state, those of its tasks, and what the UI asks for: the buttons of each task."
    links = {}
    for task in dag.task_ids:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run.run_id}/taskInstances/{task}/links"
        found = client.get(path)
        assert found.status_code == 200, found.text
        links[task] = {name: url for name, url in found.json()["extra_links"].items() if url}
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    return [str(run.state), states, links]

for name, day, option, marked in asked:
    person = threading.Thread(target=answer, args=[option]) if option else None
    if person:
        person.start()
    run = dag.test(logical_date=None, run_conf={"ds": day}, mark_success_pattern=marked)
    if person:
        person.join()
    print("RESULT" + json.dumps([name, said(run)]), flush=True)

arguments = ["backfill", "create", "--dag-id", late_id, "--max-active-runs", "2"]
arguments += ["--from-date", backfilled[0], "--to-date", backfilled[-1] + "T23:59"]
arguments = get_parser().parse_args(arguments)
arguments.func(arguments)
with create_session() as session:
    runs = session.scalars(select(DagRun).where(DagRun.run_type == "backfill").order_by(DagRun.id)).all()
    print("RESULT" + json.dumps(["backfill", [run.partition_key for run in runs]]), flush=True)
    for late in session.scalars(select(Deadline)).all():  # as the scheduler does when the time has come
        late.handle_miss(session)
        trigger = late.callback.trigger
        from airflow.triggers.callback import CallbackTrigger
        async def fire():
            return [event async for event in CallbackTrigger(**trigger.kwargs).run()]
        print("RESULT" + json.dumps(["alerted", asyncio.run(fire())[-1].payload["state"]]), flush=True)
"""


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers["Authorization"], json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.received = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Outcome:
    """What the runs left."""

    def __init__(
        self,
        store: LocalStore,
        versions: dict[str, str],
        said: dict[str, Any],
        commands: list[Any],
        output: str,
    ) -> None:
        self.store, self.versions, self.said, self.commands, self.output = (
            store,
            versions,
            said,
            commands,
            output,
        )


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, airflow_database: Path, receiver: Any) -> Outcome:
    root = tmp_path_factory.mktemp("outcomes")
    store = LocalStore(root / "store")
    versions = {day: store_version(store, day) for day in DAYS.values()}
    url, airflow = (root / "store").as_uri(), {"retries": 0, "alert_connection": "persia_alerts"}
    write_project(root, small_config(url, airflow=airflow | {"approval": True, "on_refusal": "skip"}))
    write_project(root, small_config(url, name="late", airflow=airflow | {"deadline_h": 1e-6}))
    (root / "dags").mkdir()
    shutil.copy(ROOT / "dags" / "daily_retrain.py", root / "dags")
    codes = PROGRAM.replace("DATA_REFUSED", str(int(ExitCode.DATA_REFUSED)))
    (root / "program.py").write_text(codes.replace("GATE_REFUSED", str(int(ExitCode.GATE_REFUSED))))
    shutil.copytree(airflow_database, root / "airflow")
    connection = {"conn_type": "http", "host": f"http://127.0.0.1:{receiver.server_port}/hook"}
    environment = os.environ | {
        "AIRFLOW_HOME": str(root / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{root / 'airflow' / 'airflow.db'}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API__BASE_URL": "http://ui.example/",
        "AIRFLOW_CONN_PERSIA_ALERTS": json.dumps(connection | {"login": "a", "password": SECRET}),
        "PYTHONPATH": str(ROOT),
        "PERSIA_HOME": str(root / "home"),
        "PERSIA_PROJECT": str(root),
        "COMMANDS": str(root / "commands"),
        "VERSIONS": json.dumps(versions),
        "NO_PROXY": "127.0.0.1",
    }
    environment.pop("PERSIA_SCHEDULES", None)
    before = r"prepare\..*|train\..*"
    asked = [
        ("approved", DAYS["approved"], "Approve", r"prepare\.(wait_for_raw|hash_features)"),
        ("rejected", DAYS["rejected"], "Reject", before),
        ("gate", DAYS["gate"], None, before),
        ("checks", DAYS["checks"], None, r"prepare\.(wait_for_raw|hash_features)"),
    ]
    command = [sys.executable, "-c", RUN, str(root / "program.py"), DAG, str(root / "dags")]
    command += [json.dumps(asked), names.daily_retrain("late"), json.dumps(BACKFILLED)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    said = dict(
        json.loads(line.partition("RESULT")[2]) for line in done.stdout.splitlines() if "RESULT" in line
    )
    commands = [json.loads(line) for line in (root / "commands").read_text().splitlines()]
    return Outcome(store, versions, said, commands, done.stdout + done.stderr)


def test_what_a_person_approves_becomes_champion(outcome: Outcome) -> None:
    state, tasks, _ = outcome.said["approved"]
    assert state == "success"
    assert set(tasks.values()) == {"success"}
    assert champion_of(outcome.store) == outcome.versions[DAYS["approved"]]  # and no later run changed it


def test_what_a_person_rejects_stays_a_candidate(outcome: Outcome) -> None:
    state, tasks, _ = outcome.said["rejected"]
    assert state == "success"
    assert tasks[names.APPROVE] == "success"
    assert tasks[names.PROMOTE] == "skipped"
    assert tasks[names.CLEAN_UP] == "success"


def test_tasks_have_buttons_for_what_they_made(outcome: Outcome) -> None:
    links = outcome.said["approved"][2]
    day, run = DAYS["approved"], f"/persia/runs/{MODEL}/{DAYS['approved']}/run-0"
    version = f"/persia/models/{MODEL}/{outcome.versions[day]}"
    of_version = {"Run report": f"{version}/report.html", "Model version": version}
    assert {task: found for task, found in links.items() if found} == {
        names.VALIDATE_PARTITION: {"Data Docs": f"/persia/data_docs/clicks/ds={day}/index.html"},
        names.MPI_JOB: {"Logs by rank": f"{run}/ranks", "TensorBoard": f"{run}/tensorboard"},
        names.PUBLISH: of_version,
        names.VALIDATE_MODEL: of_version,
        names.PROMOTE: of_version,
    }


def test_a_refusal_has_its_buttons_too(outcome: Outcome) -> None:
    state, tasks, links = outcome.said["checks"]
    assert (state, tasks[names.VALIDATE_PARTITION]) == ("failed", "failed")
    docs = f"/persia/data_docs/clicks/ds={DAYS['checks']}/index.html"
    assert links[names.VALIDATE_PARTITION] == {"Data Docs": docs}
    state, tasks, links = outcome.said["gate"]
    # With on_refusal: skip.
    assert (state, tasks[names.VALIDATE_MODEL], tasks[names.CLEAN_UP]) == ("success", "skipped", "success")
    assert tasks[names.PROMOTE] == "skipped"
    assert links[names.VALIDATE_MODEL]["Run report"].endswith(f"{outcome.versions[DAYS['gate']]}/report.html")


def test_people_are_told_of_a_refusal_once(outcome: Outcome, receiver: Any) -> None:
    told = {body["day"]: body for _, _, body in receiver.received if body["event"] != "deadline_missed"}
    assert sorted(told) == [DAYS["gate"], DAYS["checks"]]
    assert len([body for _, _, body in receiver.received if body["event"] != "deadline_missed"]) == 2
    gate, checks = told[DAYS["gate"]], told[DAYS["checks"]]
    assert (gate["event"], gate["task"], gate["name"]) == (
        "gate_refused",
        names.VALIDATE_MODEL,
        "GATE_REFUSED",
    )
    assert (checks["event"], checks["task"]) == ("task_failed", names.VALIDATE_PARTITION)
    assert gate["what"] == checks["what"] == "it is <worse>"
    assert gate["text"].startswith(
        f"{DAG}, {DAYS['gate']}: {names.VALIDATE_MODEL} refused: it is <worse>; what to do"
    )
    assert gate["url"].startswith(f"http://ui.example/dags/{DAG}/runs/manual")


def test_the_receiver_s_password_stays_in_the_connection(outcome: Outcome, receiver: Any) -> None:
    paths = {path for path, _, _ in receiver.received}
    assert paths == {"/hook"}
    assert all(authorization.startswith("Basic ") for _, authorization, _ in receiver.received)
    assert SECRET not in outcome.output


def test_airflow_s_own_backfill_makes_a_run_for_each_day(outcome: Outcome) -> None:
    assert outcome.said["backfill"] == BACKFILLED


def test_people_are_told_of_runs_that_are_late(outcome: Outcome, receiver: Any) -> None:
    assert outcome.said["alerted"] == "success"
    late = [body for _, _, body in receiver.received if body["event"] == "deadline_missed"]
    assert [body["day"] for body in late] == BACKFILLED
    assert all("not done in time" in body["text"] for body in late)
