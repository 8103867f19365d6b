"""Fetching over HTTP: only what changed, by links and deltas, and never anything but what was published."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt
from persia_core.handoff.consume import fetch, pick_up
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CANDIDATE
from persia_core.handoff.publish import publish
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.transfer import read_manifest
from tests.support.runs import DIM, Day, FakeModel, make_day, make_run, oracle_predict, small_config

TABLES = ("user", "item", "tag", "hour")


class Watched:
    """Passes calls on, and keeps the names of the parts that are downloaded."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.downloaded: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def download(self, key: str, path: Path) -> None:
        self.downloaded.add(key.split("/versions/")[1].split("/", 1)[1])
        self._store.download(key, path)


def learned(model: FakeModel, seed: int) -> FakeModel:
    """The model after another day: of every table one row is gone, one has changed, one is new."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, rows in model.weights.items():
        ids = [int(id_) for id_ in rng.permutation(np.array(sorted(rows), np.uint64))]
        new = ids[0] ^ 0xABCDEF
        weights[name] = {id_: rows[id_] for id_ in ids[1:]}
        weights[name][ids[1]] = rng.normal(size=DIM).astype(np.float32)
        weights[name][new] = rng.normal(size=DIM).astype(np.float32)
    return FakeModel(weights, model.network)


@dataclass
class Line:
    """Versions one after the other, the newest the candidate; each of the same day's model, trained on."""

    config: ModelConfig
    store: S3Store
    root: Path
    checkpoint: str | None = None
    day: Day | None = None
    model: FakeModel | None = None

    def publish(self) -> str:
        number = len(list(self.root.glob("run-*"))) + 1
        self.day = make_day(self.config, self.store, f"2026-11-0{number}", rows=40, seed=1)
        self.model = self.day.model if self.model is None else learned(self.model, number)
        run = make_run(
            self.config, self.day, self.root / f"run-{number}", model=self.model, parent=self.checkpoint
        )
        result = publish(self.config, self.store, self.day.ds, run)
        self.checkpoint = result.checkpoint
        return result.version


@pytest.fixture
def line(s3_store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    # Tables this small are no larger than their deltas: fetch by delta whatever it costs.
    monkeypatch.setattr("persia_core.handoff.reuse._budget", lambda manifest, paths: 1 << 40)
    return Line(small_config(export={"delta": True, "graph": False}), s3_store, tmp_path)


def assert_is_published(line: Line, version: str, cache: Path) -> None:
    manifest = read_manifest(line.store, version_prefix("small", version)).manifest
    for part in manifest.parts:
        if not part.path.startswith("delta/"):
            published = line.store.get(version_prefix("small", version) + part.path).data
            assert (cache / version / part.path).read_bytes() == published
    assert line.day is not None
    assert line.model is not None
    predicted = pick_up(line.store, "small", cache, CANDIDATE).model.predict(line.day.table)
    expected = oracle_predict(line.config, line.model, line.day.table)
    np.testing.assert_allclose(predicted, expected, atol=1e-6)


def test_a_version_is_made_from_the_one_before_and_the_delta(line: Line, tmp_path: Path) -> None:
    line.publish()
    fetch(line.store, "small", tmp_path / "cache", CANDIDATE)
    version = line.publish()
    watched = Watched(line.store)
    fetched = fetch(watched, "small", tmp_path / "cache", CANDIDATE)
    deltas = {f"delta/{name}{kind}.parquet" for name in TABLES for kind in ("", ".removed")}
    changed = {"MODEL_CARD.md", "report.html", "schema.json", "parity.parquet"}
    assert watched.downloaded - changed == deltas  # the dense weights are those of the day before
    assert fetched.version == version
    tables = sum(part.size for part in fetched.manifest.parts if part.path.startswith("embeddings/"))
    assert fetched.bytes_reused > tables
    assert_is_published(line, version, tmp_path / "cache")
    again = Watched(line.store)
    assert fetch(again, "small", tmp_path / "cache", CANDIDATE).bytes_reused == fetched.bytes
    assert again.downloaded == set()


def test_several_versions_behind_takes_several_deltas(line: Line, tmp_path: Path) -> None:
    line.publish()
    fetch(line.store, "small", tmp_path / "cache", CANDIDATE)
    for _ in range(3):
        version = line.publish()
    watched = Watched(line.store)
    fetch(watched, "small", tmp_path / "cache", CANDIDATE)
    assert not any(path.startswith("embeddings/") for path in watched.downloaded)
    assert_is_published(line, version, tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir())[-1] == version
    assert not list((tmp_path / "cache").glob(".delta-*"))


@pytest.mark.parametrize("damage", ["flipped", "other rows", "gone"])
def test_a_damaged_copy_of_the_parent_is_never_built_upon(line: Line, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    first = line.publish()
    fetch(line.store, "small", cache, CANDIDATE)
    version = line.publish()
    table = cache / first / "embeddings" / "user.parquet"
    whole = table.read_bytes()
    if damage == "flipped":
        table.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])  # in a value or an id
    elif damage == "other rows":
        shutil.copyfile(cache / first / "embeddings" / "item.parquet", table)
    else:
        table.unlink()
    watched = Watched(line.store)
    fetch(watched, "small", cache, CANDIDATE)
    assert "embeddings/user.parquet" in watched.downloaded
    assert_is_published(line, version, cache)


def test_a_parent_that_was_retired_from_the_store_serves_from_here(line: Line, tmp_path: Path) -> None:
    first = line.publish()
    fetch(line.store, "small", tmp_path / "here", CANDIDATE)
    version = line.publish()
    for info in list(line.store.list(version_prefix("small", first))):
        line.store.delete(info.key)
    for cache, by_delta in (("here", True), ("empty", False)):
        watched = Watched(line.store)
        fetch(watched, "small", tmp_path / cache, CANDIDATE)
        assert any(path.startswith("delta/") for path in watched.downloaded) == by_delta
        assert any(path.startswith("embeddings/") for path in watched.downloaded) != by_delta
        assert_is_published(line, version, tmp_path / cache)


def test_a_gap_in_the_line_of_deltas_means_fetching_in_full(line: Line, tmp_path: Path) -> None:
    line.publish()
    fetch(line.store, "small", tmp_path / "cache", CANDIDATE)
    second, version = line.publish(), line.publish()
    line.store.delete(version_prefix("small", second) + "manifest.json")
    watched = Watched(line.store)
    fetch(watched, "small", tmp_path / "cache", CANDIDATE)
    assert "embeddings/user.parquet" in watched.downloaded
    assert_is_published(line, version, tmp_path / "cache")


def test_deltas_are_left_when_the_tables_are_less(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    line.publish()
    fetch(line.store, "small", tmp_path / "cache", CANDIDATE)
    version = line.publish()
    watched = Watched(line.store)
    fetch(watched, "small", tmp_path / "cache", CANDIDATE)
    assert not any(path.startswith("delta/") for path in watched.downloaded)
    assert_is_published(line, version, tmp_path / "cache")


def test_a_damaged_delta_in_the_store_is_found(line: Line, tmp_path: Path) -> None:
    line.publish()
    fetch(line.store, "small", tmp_path / "cache", CANDIDATE)
    version = line.publish()
    key = version_prefix("small", version) + "delta/user.parquet"
    whole = line.store.get(key).data
    line.store.put(key, whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    with pytest.raises(Corrupt, match="delta/user"):
        fetch(line.store, "small", tmp_path / "cache", CANDIDATE)
    assert not (tmp_path / "cache" / version / "manifest.json").exists()


def test_another_type_or_table_than_the_parent_has_no_delta(line: Line, tmp_path: Path) -> None:
    line.publish()
    line.config = small_config(
        export={"delta": True, "graph": False, "embeddings": "int8"},
        gates={"min_rows": 50, "max_prediction_difference": 0.1},
    )
    version = line.publish()
    manifest = read_manifest(line.store, version_prefix("small", version)).manifest
    assert manifest.details["delta"] is None
    assert not any(part.path.startswith("delta/") for part in manifest.parts)
    parity = manifest.details["parity"]["max_difference"]
    assert 1e-6 < parity < 0.1
