"""The pages that tasks have buttons for: what they show, and what they refuse to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from persia_core.airflow import links
from persia_core.airflow.pages import ranks
from persia_core.checkpoint.layout import TENSORBOARD
from persia_core.config.retention import Retention
from persia_core.handoff.layout import data_docs_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.launch.kept_runs import keep_files
from persia_core.launch.rank_process import LOGS, PROCESSES, RankProcess
from tests.support.airflow_pages import login, pages, write_project
from tests.support.runs import small_config
from tests.support.versions import MODEL, store_version

pytestmark = pytest.mark.airflow

DS = "2026-11-20"
RUN = "run-0123"
INDEX = b"<p>refused</p><a href='great_expectations/a.html'>more</a>"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    store.put(data_docs_prefix("clicks", DS) + "index.html", INDEX)
    store.put(data_docs_prefix("clicks", DS) + "great_expectations/a.html", b"<p>detail")
    store.put(data_docs_prefix("clicks", DS) + "verdict.json", b"{}")
    store.put("secret.html", b"not for anyone")
    return store


@pytest.fixture
def client(tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    config = small_config((tmp_path / "store").as_uri(), airflow={})
    write_project(tmp_path, config)
    monkeypatch.setenv("PERSIA_PROJECT", str(tmp_path))
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    with pages() as found:
        found.headers.update(login("VIEWER"))
        yield found


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of two ranks, of which one was killed; a third has a log, and nothing tells how it is."""
    made = tmp_path / "home" / "work" / MODEL / f"ds={DS}" / RUN
    for name in (LOGS, PROCESSES):
        (made / name).mkdir(parents=True)
    for rank, (role, status) in enumerate([("embedding server 0", 0), ("trainer 0", -9)]):
        process = RankProcess(
            rank=rank, role=role, host="<host>", pid=4711 + rank, heartbeat=Path("h"), status=status
        )
        (made / PROCESSES / f"{rank}.json").write_text(process.model_dump_json())
        (made / LOGS / f"{role.replace(' ', '-')}.log").write_text(f"<b>{role}</b> says é\n")
    (made / LOGS / "trainer-1.log").write_text("")
    return made


def test_data_docs_are_shown_as_they_lie_in_the_store(client: TestClient) -> None:
    address = links.of_result(MODEL, {"data_docs": data_docs_prefix("clicks", DS) + "index.html"})[
        "Data Docs"
    ]
    answer = client.get(address)
    assert (answer.status_code, answer.content) == (200, INDEX)
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert client.get(address.replace("index", "great_expectations/a")).content == b"<p>detail"


@pytest.mark.parametrize(
    "path",
    [
        f"clicks/ds={DS}/verdict.json",
        f"clicks/ds={DS}/none.html",
        f"clicks/ds={DS}/%2e%2e/%2e%2e/%2e%2e/secret.html",
        f"clicks/ds={DS}/..%2f..%2f..%2fsecret.html",
        f"clicks/ds={DS}//index.html",
        f"clicks/ds={DS}/a%5Cb.html",
        f"clicks/ds={DS}/%00index.html",
        "clicks/ds=2026-02-30/index.html",
        f"other/ds={DS}/index.html",
    ],
)
def test_nothing_else_of_the_store_is_shown(client: TestClient, path: str) -> None:
    answer = client.get(f"/persia/data_docs/{path}")
    assert answer.status_code == 404
    assert b"not for anyone" not in answer.content


def test_each_rank_has_its_log_and_how_it_ended(client: TestClient, run_dir: Path) -> None:
    address = links.of_run(MODEL, DS, RUN, None)["Logs by rank"]
    page = client.get(address).text
    assert "ended with exit code 0" in page
    assert "was ended by signal 9 (SIGKILL)" in page
    assert "&lt;host&gt;" in page
    assert "<host>" not in page
    places = [page.index(f"{name}.log") for name in ("embedding-server-0", "trainer-0", "trainer-1")]
    assert places == sorted(places)
    log = client.get(f"{address}/trainer-0.log")
    assert log.text == "<b>trainer 0</b> says é\n"
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert log.headers["x-content-type-options"] == "nosniff"


def test_a_published_run_has_its_pages_too(client: TestClient, run_dir: Path) -> None:
    (run_dir / TENSORBOARD).mkdir()
    (run_dir / "checkpoint").mkdir()
    before, curves = (client.get(address).text for address in links.of_run(MODEL, DS, RUN, None).values())
    removed, kept = keep_files(run_dir, f"{DS}-0123456789ab", Retention())
    assert ([path.name for path in removed], kept) == (["checkpoint"], [run_dir])
    assert "ended with exit code 0" in before and "trainer-0.log" in before
    after = [client.get(address).text for address in links.of_run(MODEL, DS, RUN, None).values()]
    assert after == [before, curves]
    assert (
        client.get(f"{links.of_run(MODEL, DS, RUN, None)['Logs by rank']}/trainer-0.log").status_code == 200
    )


def test_only_logs_of_the_run_are_read(client: TestClient, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not for anyone")
    (run_dir / LOGS / "link.log").symlink_to(tmp_path / "secret")
    address = links.of_run(MODEL, DS, RUN, None)["Logs by rank"]
    assert "link.log" not in client.get(address).text
    for name in ("link.log", "none.log", "..%2f..%2f..%2fsecret", "../processes/0.json"):
        assert client.get(f"{address}/{name}").status_code == 404
    for place in (f"{DS}/..", f"..%2f{DS}/{RUN}", "today/run"):
        assert client.get(f"/persia/runs/{MODEL}/{place}/ranks").status_code == 404


def test_of_a_long_log_the_end_is_shown(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "MAX_BYTES", 12)
    (run_dir / LOGS / "trainer-1.log").write_text("one\ntwo\nthree\nfour\n")  # 19 bytes
    assert ranks.end_of_log(run_dir, "trainer-1.log") == b"(the first 8 bytes are left out)\nthree\nfour\n"


def test_a_run_whose_files_are_gone_is_said_so(client: TestClient, tmp_path: Path) -> None:
    answer = client.get(links.of_run(MODEL, DS, RUN, None)["Logs by rank"])
    assert answer.status_code == 200
    assert f"ds={DS}/{RUN} is not on this host" in answer.text


def test_the_page_for_tensorboard_has_the_command(
    client: TestClient, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = links.of_run(MODEL, DS, RUN, None)["TensorBoard"]
    assert "training.tensorboard: true" in client.get(address).text
    wanted = small_config((tmp_path / "store").as_uri(), airflow={})
    training = wanted.training.model_copy(update={"tensorboard": True})
    (tmp_path / "configs" / f"{MODEL}.yaml").unlink()
    (tmp_path / "configs").rmdir()
    write_project(tmp_path, wanted.model_copy(update={"training": training}))
    assert "There are no event files" in client.get(address).text
    (run_dir / "tensorboard").mkdir()
    assert f"tensorboard --logdir {run_dir / 'tensorboard'}" in client.get(address).text
    elsewhere = links.of_run(MODEL, DS, RUN, "https://tb.example.com/x/")["TensorBoard"]
    assert elsewhere == f"https://tb.example.com/x/?runFilter={RUN}#timeseries"


def test_a_version_has_a_page_with_its_verdict_and_parts(client: TestClient, store: LocalStore) -> None:
    version = store_version(store, DS, verdict=False)
    address = links.of_result(MODEL, {"version": version})["Model version"]
    page = client.get(address).text
    assert version in page
    assert "AUC 0.4 is below 0.5" in page
    assert "embeddings/user.parquet" in page
    assert f'href="../../data_docs/clicks/ds={DS}/index.html"' in page
    assert client.get(address + "x").status_code == 404
    assert (
        client.get(links.of_result(MODEL, {"version": version})["Run report"]).status_code == 404
    )  # none in it


def test_nobody_reads_them_without_a_login(client: TestClient, run_dir: Path) -> None:
    del client.headers["Authorization"]
    run = links.of_run(MODEL, DS, RUN, None)
    found = {"version": f"{DS}-0123456789ab", "data_docs": data_docs_prefix("clicks", DS) + "index.html"}
    for address in [
        *run.values(),
        f"{run['Logs by rank']}/trainer-0.log",
        *links.of_result(MODEL, found).values(),
    ]:
        assert client.get(address).status_code == 401, address


def test_addresses_keep_the_path_that_the_api_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow/")
    address = links.of_result("m", {"version": "2026-11-20-0123456789ab"})["Model version"]
    assert address == "/airflow/persia/models/m/2026-11-20-0123456789ab"
