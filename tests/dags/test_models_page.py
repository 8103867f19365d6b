"""The page "Models": what it says of a real store, whom it answers, and that Airflow finds it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow import plugins_manager
from fastapi.testclient import TestClient

from persia_core.airflow.models_page.app import verified_report
from persia_core.airflow.models_page.overview import overview
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST, verdict_key, version_name, version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Lineage, Manifest, digest_of
from persia_core.handoff.pointer import CANDIDATE, CHAMPION, Move, Pointer, swap_pointer
from tests.support.airflow_pages import login, pages, write_project
from tests.support.runs import small_config
from tests.support.versions import MODEL, part_of_bytes, verdict_on

pytestmark = pytest.mark.airflow
REPORT = b"<p>the report</p>"
DAYS = {"2026-11-02": None, "2026-11-03": 0.7125, "2026-11-04": 0.7375}


def _publish(store: LocalStore, ds: str, parent: str | None, history: list[Any], passed: bool) -> Move:
    parts = [part_of_bytes("report.html", REPORT), part_of_bytes("x", ds.encode())]
    manifest = Manifest(
        kind="model_version",
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint="s",
        lineage=Lineage(dataset="clicks", ds=ds, parent=parent, config_digest="c", code_version="t"),
        metrics={"before": None if DAYS[ds] is None else {"auc": DAYS[ds]}, "rows_trained": 1234},
        details={"checkpoint": f"checkpoints/small/ds={ds}/run/", "history": history},
    )
    version, data = version_name(ds, manifest.digest), manifest.to_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(version_prefix(MODEL, version) + "report.html", REPORT)
    store.put(version_prefix(MODEL, version) + MANIFEST, data)
    store.put(verdict_key(MODEL, version), verdict_on(version, sha256, passed=passed).to_bytes())
    return Move(version=version, ds=ds, manifest_sha256=sha256, reason=f"for <{ds}>")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def versions(store: LocalStore) -> list[str]:
    """Three days; the second is champion after the first, the third is a candidate that was refused."""
    moves: list[Move] = []
    history: list[Any] = []
    for ds, auc in DAYS.items():
        parent = f"checkpoints/small/ds={moves[-1].ds}/run/" if moves else None
        history = [*history, {"ds": ds, "auc": auc}]
        moves.append(_publish(store, ds, parent, history, passed=ds != "2026-11-04"))
    pointer = Pointer(**dict(moves[0])).followed_by(moves[1])
    swap_pointer(store, MODEL, CHAMPION, pointer, None)
    swap_pointer(store, MODEL, CANDIDATE, Pointer(**dict(moves[2])), None)
    return [move.version for move in moves]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    config = small_config((tmp_path / "store").as_uri(), airflow={})
    write_project(tmp_path, config)
    monkeypatch.setenv("PERSIA_PROJECT", str(tmp_path))
    with pages() as found:
        yield found


def test_the_overview_is_what_was_stored(store: LocalStore, versions: list[str]) -> None:
    found = overview(store, MODEL)
    assert (found.champion, found.candidate) == (versions[1], versions[2])
    assert [line.version for line in found.versions] == versions[::-1]
    assert [line.parent for line in found.versions] == [versions[1], versions[0], None]
    assert [line.auc for line in found.versions] == [0.7375, 0.7125, None]
    assert found.days == [("2026-11-02", None), ("2026-11-03", 0.7125)]
    assert [move.version for move in found.moves] == [versions[1], versions[0]]
    refused = found.versions[0].verdict
    assert refused is not None
    assert refused.reasons() == ["AUC 0.4 is below 0.5"]
    assert found.problems == []


def test_a_damaged_manifest_is_named_and_the_others_are_shown(store: LocalStore, versions: list[str]) -> None:
    store.put(version_prefix(MODEL, versions[0]) + MANIFEST, b"{")
    found = overview(store, MODEL)
    assert [line.version for line in found.versions] == [versions[2], versions[1]]
    assert len(found.problems) == 1
    assert versions[0] in found.problems[0]


def test_a_report_is_shown_only_if_it_is_the_one_in_the_manifest(
    store: LocalStore, versions: list[str]
) -> None:
    assert verified_report(store, MODEL, versions[1]) == REPORT
    store.put(version_prefix(MODEL, versions[1]) + "report.html", REPORT.replace(b"the", b"thy"))
    with pytest.raises(Corrupt, match="not the report"):
        verified_report(store, MODEL, versions[1])


def test_airflow_has_the_page_in_its_navigation() -> None:
    views = [view for view in plugins_manager.get_plugin_info() if view["name"] == "persia_models"]
    assert [view["external_views"][0]["href"] for view in views] == ["/persia/models"]
    assert plugins_manager.get_import_errors() == {}


def test_nobody_reads_it_without_a_login(client: TestClient, versions: list[str]) -> None:
    report = f"/persia/models/{MODEL}/{versions[1]}/report.html"
    for path in ("/persia/models", report):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer x.y.z"}).status_code == 403


def test_the_page_shows_versions_verdicts_and_a_way_back(client: TestClient, versions: list[str]) -> None:
    answer = client.get("/persia/models", headers=login("ADMIN"))
    assert answer.status_code == 200
    page = answer.text
    assert all(version in page for version in versions)
    assert "AUC 0.4 is below 0.5" in page
    assert "2026-11-03: 0.7125</title>" in page
    assert "for &lt;2026-11-03&gt;" in page
    assert "for <2026" not in page
    # Only the version before the champion: not the champion, and not the newer one.
    assert page.count('<form class="rollback"') == 1
    assert f'<form class="rollback" data-model="{MODEL}" data-version="{versions[0]}">' in page
    report = client.get(f"/persia/models/{MODEL}/{versions[1]}/report.html", headers=login("ADMIN"))
    assert report.content == REPORT
    assert report.headers["content-security-policy"].startswith("sandbox")


def test_a_viewer_reads_and_is_offered_no_way_back(client: TestClient, versions: list[str]) -> None:
    page = client.get("/persia/models", headers=login("VIEWER")).text
    assert versions[1] in page
    assert '<form class="rollback"' not in page


def test_a_store_out_of_reach_is_said_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_STORAGE_URL", "s3://nowhere/persia")
    monkeypatch.setenv("PERSIA_S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(
        "AIRFLOW_CONN_PERSIA_S3", '{"conn_type": "aws", "login": "a", "password": "hidden-one"}'
    )
    answer = client.get("/persia/models", headers=login("ADMIN"))
    assert answer.status_code == 200
    assert "127.0.0.1:9" in answer.text
    assert "what to do" in answer.text
    assert "hidden-one" not in answer.text
