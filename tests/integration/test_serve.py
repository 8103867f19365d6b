"""`persia serve`: raw rows in, the champion's probabilities out, whatever happens to the champion."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persia_core.config import ModelConfig
from persia_core.config.export import Export
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.publish import publish
from tests.support.hashed import hashed_table
from tests.support.runs import (
    Day,
    make_day,
    make_run,
    opposite,
    oracle_predict,
    raw_rows,
    small_config,
)
from tests.support.serving import Served, make_champion, serving

DS, NEXT = "2026-11-02", "2026-11-03"
ROWS = 40


class Place:
    """A store with two versions: of the second, every score is on the other side, and it has no ONNX file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = LocalStore(directory / "store")
        self.config = small_config(f"file://{directory / 'store'}", export={"onnx": True})
        self.without_onnx = self.config.model_copy(update={"export": Export(onnx=False)})
        self.day = make_day(self.config, self.store, DS)
        self.first = self._publish(self.config, DS, self.day)
        following = make_day(self.config, self.store, NEXT, seed=1)
        self.second_model = opposite(following.model)
        self.second = self._publish(self.without_onnx, NEXT, following, model=self.second_model)

    def _publish(self, config: ModelConfig, ds: str, day: Day, **options: Any) -> str:
        return publish(config, self.store, ds, make_run(config, day, self.directory / ds, **options)).version

    def champion(self, version: str) -> None:
        make_champion(self.store, self.config.name, version)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def first_server(place: Place) -> Iterator[Served]:
    """For tests that leave the champion alone; it looks at the pointer once."""
    place.champion(place.first)
    with serving(place.config, place.directory / "served", follow_every_s=1e6) as found:
        yield found


@pytest.fixture
def server(place: Place, tmp_path: Path) -> Iterator[Served]:
    place.champion(place.first)
    with serving(place.config, tmp_path / "served") as found:
        yield found


def requests_of(rows: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """As a client sends them: without the label; an empty field is not sent."""
    names = [name for name in rows if name != "label"]
    return [
        {name: value for name, value in zip(names, values, strict=True) if value != ""}
        for values in zip(*(rows[name] for name in names), strict=True)
    ]


def expected(config: ModelConfig, model: Any, rows: dict[str, list[Any]]) -> np.ndarray:
    """By the oracle's own hashing and pooling; rows come out by time, which is their order here."""
    return oracle_predict(config, model, hashed_table(config, rows))


def test_raw_rows_get_the_models_probabilities(place: Place, first_server: Served) -> None:
    rows = raw_rows(ROWS, seed=5)
    code, found = first_server.post("/predict", {"rows": requests_of(rows)})
    assert code == 200
    assert (found["version"], found["rejected"]) == (place.first, [])
    np.testing.assert_allclose(
        found["probabilities"], expected(place.config, place.day.model, rows), atol=1e-5, rtol=0
    )


def test_a_row_that_cannot_be_read_is_named_and_the_others_are_answered(
    place: Place, first_server: Served
) -> None:
    rows = raw_rows(3, seed=5)
    sent = requests_of(rows)
    sent[1]["price"] = "cheap"
    code, found = first_server.post("/predict", {"rows": sent})
    assert code == 200
    assert [r["row"] for r in found["rejected"]] == [1]
    assert "price" in found["rejected"][0]["reason"]
    assert found["probabilities"][1] is None
    oracle = expected(place.config, place.day.model, rows)
    np.testing.assert_allclose([found["probabilities"][i] for i in (0, 2)], oracle[[0, 2]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("document", [{}, {"rows": []}, {"rows": [5]}, {"rows": [{"user": {"a": 1}}]}, []])
def test_a_request_of_another_form_is_refused(first_server: Served, document: Any) -> None:
    code, found = first_server.post("/predict", document)
    assert code == 422
    assert found["detail"]


def test_health_metrics_and_page_say_what_serves(place: Place, first_server: Served) -> None:
    first_server.post("/predict", {"rows": requests_of(raw_rows(4, seed=5))})
    code, health = first_server.get("/healthz")
    assert code == 200
    assert place.first in health
    code, metrics = first_server.get("/metrics")
    assert code == 200
    assert 'persia_serve_rows_total{outcome="predicted"}' in metrics
    assert f'version="{place.first}"' in metrics
    code, page = first_server.get("/")
    assert code == 200
    assert "<form" in page
    code, schema = first_server.get("/schema")
    assert code == 200
    for name in ("user", "price", "item", "history", "tags", "timestamp"):
        assert f'"{name}"' in schema


def test_a_swap_drops_no_request(place: Place, server: Served) -> None:
    rows = raw_rows(ROWS, seed=5)
    document = {"rows": requests_of(rows)}
    by_version = {
        place.first: expected(place.config, place.day.model, rows),
        place.second: expected(place.config, place.second_model, rows),
    }
    answers: list[tuple[int, Any]] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(server.post("/predict", document))

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    server.wait_for("an answer of the first version", lambda: bool(answers))
    place.champion(place.second)
    server.wait_for("an answer of the second version", lambda: answers[-1][1].get("version") == place.second)
    stop.set()
    for client in clients:
        client.join()
    assert {code for code, _ in answers} == {200}
    assert {found["version"] for _, found in answers} == set(by_version)
    for _, found in answers:  # never rows of one version and the network of the other
        np.testing.assert_allclose(found["probabilities"], by_version[found["version"]], atol=1e-5, rtol=0)


def test_a_champion_that_is_damaged_is_refused_and_the_model_in_use_stays(
    place: Place, server: Served
) -> None:
    key = version_prefix(place.config.name, place.second) + "embeddings/item.parquet"
    path = place.directory / "store" / key
    good = path.read_bytes()
    try:
        path.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
        place.champion(place.second)
        server.wait_for("a word about the champion", lambda: "item.parquet" in server.get("/healthz")[1])
        code, found = server.post("/predict", {"rows": requests_of(raw_rows(2, seed=5))})
        assert (code, found["version"]) == (200, place.first)
        assert "persia_serve_model_refusals_total 1.0" in server.get("/metrics")[1]
    finally:
        path.write_bytes(good)


def test_a_second_start_maps_what_the_first_one_decoded(place: Place, tmp_path: Path) -> None:
    place.champion(place.first)
    rows = raw_rows(ROWS, seed=5)
    oracle = expected(place.config, place.day.model, rows)
    mapped = tmp_path / "served" / "cache" / place.config.name / place.first / "mapped" / "item.embedding"
    logs = []
    parquet = mapped.parents[1] / "embeddings" / "user.parquet"
    for damage in (False, False, True):
        if logs:  # not needed any more, neither here nor from the store
            assert parquet.exists() == (len(logs) == 1)
            parquet.unlink(missing_ok=True)
        if damage:  # the same length: only a checksum tells
            content = mapped.read_bytes()
            mapped.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with serving(place.config, tmp_path / "served") as server:
            _, found = server.post("/predict", {"rows": requests_of(rows)})
            np.testing.assert_allclose(found["probabilities"], oracle, atol=1e-5, rtol=0)
            logs.append(server.log.read_text())
            libraries = Path(f"/proc/{server.process.pid}/maps").read_text()
            assert "onnxruntime" in libraries
            assert "libtorch" not in libraries  # which takes longer to load than all the rest
    assert "decoding table item" in logs[0]
    assert "decoding table" not in logs[1]
    assert "item.embedding is damaged" in logs[2]
    assert "decoding table user" not in logs[2]


def test_without_a_champion_the_command_says_so(place: Place, tmp_path: Path) -> None:
    config = small_config(f"file://{tmp_path / 'empty'}")
    with pytest.raises(RuntimeError, match="no champion"), serving(config, tmp_path / "served"):
        pass


def test_another_schema_than_the_configurations_is_refused(place: Place, tmp_path: Path) -> None:
    place.champion(place.first)
    other = place.config.model_copy(
        update={"dataset": place.config.dataset.model_copy(update={"salt": "another"})}
    )
    with pytest.raises(RuntimeError, match="reads other features"), serving(other, tmp_path / "served"):
        pass


def test_the_oracle_tells_rows_and_versions_apart(place: Place) -> None:
    rows = raw_rows(ROWS, seed=5)
    first = expected(place.config, place.day.model, rows)
    second = expected(place.config, place.second_model, rows)
    assert np.ptp(first) > 0.01
    assert np.abs(first - second).max() > 0.01
