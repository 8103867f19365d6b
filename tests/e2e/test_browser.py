"""A person at the Airflow UI: logs in, follows a run, opens what tasks link to, and rolls a model back."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from persia_core.airflow import names
from persia_core.demo.airflow_client import AirflowClient
from persia_core.handoff.layout import MANIFEST, data_docs_prefix, version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer, swap_pointer
from persia_core.platform import Platform, down, services, up
from persia_core.platform.ports import free_port
from persia_core.platform.processes import end, start
from persia_core.platform.state import load_state
from tests.e2e.browser import Person, headless
from tests.support.airflow_pages import write_project
from tests.support.runs import small_config
from tests.support.versions import MODEL, store_version
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
DAG = names.daily_retrain(MODEL)
YESTERDAY, TODAY = "2026-01-01", "2026-01-02"
PASSWORD = "correct horse battery"
REASON = "clicks fell since Thursday"

# Stands in for the stages that make data and model; jobs, promotion and roll-back are the real ones.
STAND_IN = """
import json, os, pathlib, sys
arguments = sys.argv[1:]
if arguments[0] in ("job", "promote"):
    os.execv(sys.executable, [sys.executable, "-m", "persia_core.cli", *arguments])
result = {"run": "run-0", "version": VERSION, "data_docs": DATA_DOCS}
pathlib.Path(arguments[arguments.index("--result-file") + 1]).write_text(json.dumps(result))
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def versions(store: LocalStore) -> list[str]:
    """Of yesterday, which is champion, and of today; each with a report and Data Docs."""
    made = []
    for day in (YESTERDAY, TODAY):
        made.append(store_version(store, day, report=f"<h1>Report of {day}</h1>".encode()))
        docs = f"<h1>Checks of {day}</h1>".encode()
        store.put(data_docs_prefix("clicks", day) + "index.html", docs)
    manifest = store.get(version_prefix(MODEL, made[0]) + MANIFEST).data
    sha256 = hashlib.sha256(manifest).hexdigest()
    pointer = Pointer(version=made[0], ds=YESTERDAY, manifest_sha256=sha256, reason="the first")
    swap_pointer(store, MODEL, CHAMPION, pointer, None)
    return made


@pytest.fixture
def platform(
    tmp_path: Path, store: LocalStore, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Platform]:
    shutil.copytree(ROOT / "dags", tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    stand_in = tmp_path / "stand_in.py"
    docs = data_docs_prefix("clicks", TODAY) + "index.html"
    stand_in.write_text(STAND_IN.replace("VERSION", repr(versions[1])).replace("DATA_DOCS", repr(docs)))
    prologue = (
        "from persia_core.airflow.operators import PersiaOperator\n"
        f"PersiaOperator.program = ({str(stand_in)!r},)\n"
    )
    file = tmp_path / "dags" / "daily_retrain.py"
    file.write_text(prologue + file.read_text(encoding="utf-8"), encoding="utf-8")
    write_project(tmp_path, small_config((tmp_path / "store").as_uri(), airflow={"retries": 0}))
    monkeypatch.setenv("PERSIA_PROJECT", str(tmp_path))
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    yield up()
    down()


@pytest.fixture
def door(platform: Platform, tmp_path: Path) -> Iterator[str]:
    """Another API server of this Airflow, which asks for a log-in; its URL."""
    state = load_state()
    assert state is not None
    state.airflow_port = free_port(0)
    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({"ada": PASSWORD, "vera": PASSWORD}))
    environment = services.airflow_environment(state) | {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin,vera:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    command = services.airflow_command("api-server", state)
    started = start("door", command, environment, tmp_path, tmp_path / "door.log")
    yield state.airflow_url
    # It overwrites its environment, by which `down` would find it.
    assert end("door", [started]) == {}


@pytest.mark.airflow
@pytest.mark.timeout(900)
def test_a_person_follows_a_day_and_rolls_back(
    platform: Platform, door: str, store: LocalStore, versions: list[str], tmp_path: Path
) -> None:
    """One story, because every start costs many seconds: see the lines that begin a chapter."""
    url = door
    airflow = AirflowClient(platform.airflow_url, platform.home, DAG)
    airflow.wait_for_dag()
    AirflowClient(platform.airflow_url, platform.home, names.ROLLBACK_DAG).wait_for_dag()
    wait_for(lambda: services.get_json(f"{url}/api/v2/monitor/health"), "the server that asks for a log-in")
    with headless() as browser:
        # Only the right password opens.
        ada = Person(browser.new_page(color_scheme="light"), url)
        ada.log_in("ada", "wrong")
        expect(ada.page.get_by_text("Invalid credentials")).to_be_visible(timeout=60_000)
        ada.log_in("ada", PASSWORD)
        ada.page.wait_for_url("**/dags")

        # A run, from its trigger to success, on one page.
        ada.open_dag(DAG)
        airflow.trigger("today", TODAY, {})
        ada.open_run(DAG, "today")
        ada.watch("success", 300)

        # Each button leads to what it names.
        for task, button, heading in (
            (names.VALIDATE_PARTITION, "Data Docs", f"Checks of {TODAY}"),
            (names.MPI_JOB, "Logs by rank", f"Logs by rank: {MODEL}, {TODAY}"),
            (names.MPI_JOB, "TensorBoard", f"TensorBoard: {MODEL}, {TODAY}"),
            (names.PUBLISH, "Run report", f"Report of {TODAY}"),
            (names.PROMOTE, "Model version", f"{MODEL} {versions[1]} champion"),
        ):
            answer = ada.press(DAG, "today", task, button)
            assert (answer.status, ada.page.locator("h1").inner_text()) == (200, heading)

        # The page Models, in the colours that Airflow's switch says, whatever the system's are.
        colours = {}
        for theme in ("light", "dark"):
            frame = ada.open_models(theme)
            badge = frame.locator(f"tr[data-version='{versions[1]}'] .badge").first
            expect(badge).to_have_text("champion", timeout=60_000)
            body = frame.locator("body")
            colours[theme] = body.evaluate("body => getComputedStyle(body).backgroundColor")
        assert colours["light"] == "rgb(255, 255, 255)" != colours["dark"]

        # Who may not roll back is not asked; who may gets a run that does it.
        vera = Person(browser.new_page(), url)
        vera.log_in("vera", PASSWORD)
        vera.page.wait_for_url("**/dags")
        frame = vera.open_models("light")
        assert frame.locator("tr[data-version]").count() == len(versions)
        assert frame.get_by_role("button").count() == 0
        ada.roll_back(versions[0], REASON)
        ada.watch("success", 120)
    found = read_pointer(store, MODEL, CHAMPION)
    assert found is not None
    assert (found[0].version, found[0].moves[0].reason) == (versions[0], REASON)
    assert found[0].moves[0].promoted_by == "ada"
