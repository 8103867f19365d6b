"""An old run is published again while it is retired: one of the two steps back, and nothing is left half."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from persia_core.errors import StorageUnavailable
from persia_core.handoff.layout import MANIFEST, MARKS_ROOT, alias_key, mark_key, version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.models import version_names
from persia_core.handoff.object_store import ObjectStore, Stored
from persia_core.handoff.pointer import CANDIDATE, read_pointer
from persia_core.handoff.publish import PublishResult, publish
from persia_core.handoff.retire import Retirement, retire
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.sweep import sweep
from persia_core.handoff.transfer import download_and_verify
from tests.support.exported_once import ExportedOnce
from tests.support.runs import make_day, make_run, small_config
from tests.support.versions import MODEL, everything

OLD, NEW = "2026-11-01", "2026-11-02"
DAY_S = 86_400.0


class Runs:
    """Two published runs, of which retention keeps the newer: `old` is the directory of the other.

    The alias was lost, so publishing the old run again points it to the old version.
    """

    def __init__(self, root: Path) -> None:
        document = small_config().model_dump()
        self.config = small_config(
            features=[f for f in document["features"] if f["name"] in ("user", "price", "item")],
            tables=[table for table in document["tables"] if table["name"] in ("user", "item")],
            retention={"versions": 1, "days": 0, "champions": 1, "checkpoint_partitions": 1},
        )
        self.store = LocalStore(root / "store")
        old, new = (make_day(self.config, self.store, ds, rows=30, seed=1) for ds in (OLD, NEW))
        self.old = make_run(self.config, old, root / "old")
        self.version = self.publish(self.store).version
        publish(self.config, self.store, NEW, make_run(self.config, new, root / "new"))
        self.store.delete(alias_key(MODEL, CANDIDATE))

    def publish(self, store: ObjectStore) -> PublishResult:
        return publish(self.config, store, OLD, self.old)

    def retire(self, store: ObjectStore) -> Retirement:
        return retire(self.config, store, apply=True)

    def copy(self, root: Path) -> LocalStore:
        shutil.copytree(self.store.url.removeprefix("file://"), root, copy_function=os.link)
        return LocalStore(root)


class Overtaken:
    """Passes calls on; before the k-th one somebody else does something, from beginning to end."""

    def __init__(self, store: ObjectStore, at: int, act: Callable[[], object]) -> None:
        self._store, self._at, self._act = store, at, act
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value) or name == "uri":
            return value

        def call(*args: Any) -> Any:
            self.calls += 1
            if self.calls == self._at:
                self._act()
            return value(*args)

        return call


def check_whole(store: ObjectStore, scratch: Path) -> set[str]:
    """What has a manifest is whole, and what an alias names has one. Returns the complete versions."""
    complete = {
        info.key.removesuffix(MANIFEST) for info in store.list("") if info.key.endswith(f"/{MANIFEST}")
    }
    for number, prefix in enumerate(sorted(complete)):
        download_and_verify(store, prefix, scratch / str(number))
    found = read_pointer(store, MODEL, CANDIDATE)
    assert found is None or version_prefix(MODEL, found[0].version) in complete
    return set(version_names(store, MODEL))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Tests work on copies of its store."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIA_HOME", str(root / "home"))
        patch.setattr("persia_core.handoff.publish.export_version", ExportedOnce(root / "exported"))
        patch.setattr("persia_core.handoff.transfer._PARALLEL", 1)  # so that the k-th call is one call
        yield Runs(root)


def test_a_retirement_at_any_call_of_publishing_takes_nothing_that_publishing_says_is_there(
    runs: Runs, tmp_path: Path
) -> None:
    counting = Overtaken(runs.copy(tmp_path / "counting"), 0, lambda: None)
    runs.publish(counting)
    refused = 0
    for k in range(1, counting.calls + 1):
        store = runs.copy(tmp_path / f"store-{k}")
        done: list[Retirement] = []
        result = runs.publish(
            Overtaken(store, k, lambda store=store, done=done: done.append(runs.retire(store)))
        )
        seen = check_whole(store, tmp_path / f"seen-{k}")
        # Before the last two calls the version's mark has gone: it is published, and the policy decides.
        assert runs.version in seen or k >= counting.calls - 1, k
        assert result.version == runs.version
        refused += runs.version in {each.name for each in done[0].kept}
    assert 0 < refused < counting.calls


def test_publishing_at_any_call_of_a_retirement_is_refused_or_ends_whole(runs: Runs, tmp_path: Path) -> None:
    counting = Overtaken(runs.copy(tmp_path / "counting"), 0, lambda: None)
    assert runs.version in {each.name for each in runs.retire(counting).retired}
    refusals: list[int] = []
    for k in range(1, counting.calls + 1):
        store = runs.copy(tmp_path / f"store-{k}")

        def again(store: LocalStore = store, k: int = k) -> None:
            try:
                runs.publish(store)
            except StorageUnavailable as refusal:
                assert "being retired" in refusal.what
                refusals.append(k)

        runs.retire(Overtaken(store, k, again))
        if k in refusals:
            runs.publish(store)
        assert runs.version in check_whole(store, tmp_path / f"seen-{k}"), k
        assert list(store.list(MARKS_ROOT)) == []
    assert 0 < len(refusals) < counting.calls


def test_at_a_real_endpoint_one_of_the_two_steps_back(
    runs: Runs, s3_store: S3Store, s3_endpoint: str, tmp_path: Path
) -> None:
    for key, data in everything(runs.store).items():
        s3_store.put(key, data)
    manifest = version_prefix(MODEL, runs.version) + MANIFEST

    class Retiring(S3Store):
        """Publishes the version just before its manifest goes."""

        def delete(self, key: str) -> None:
            if key == manifest:
                with pytest.raises(StorageUnavailable, match="being retired"):
                    runs.publish(s3_store)
            super().delete(key)

    class Publishing(S3Store):
        """Retires the version just before the alias moves, or would."""

        kept: frozenset[str] = frozenset()

        def get(self, key: str) -> Stored:
            if key == alias_key(MODEL, CANDIDATE) and not self.kept:
                self.kept = frozenset(each.name for each in runs.retire(s3_store).kept)
            return super().get(key)

    runs.retire(Retiring(s3_store.url, s3_endpoint))
    assert runs.version not in check_whole(s3_store, tmp_path / "retired")
    publishing = Publishing(s3_store.url, s3_endpoint)
    assert runs.publish(publishing).version == runs.version
    assert runs.version in publishing.kept
    assert runs.version in check_whole(s3_store, tmp_path / "published")


def test_marks_of_processes_that_died_are_swept(runs: Runs, tmp_path: Path) -> None:
    store = runs.copy(tmp_path / "store")
    before = everything(store)
    dead = {mark_key(version_prefix(MODEL, runs.version), kind, "0") for kind in ("publishing", "retiring")}
    for key in dead:
        store.put(key, b"")
    with pytest.raises(StorageUnavailable, match="persia sweep"):
        runs.publish(store)
    assert runs.version in {each.name for each in runs.retire(store).kept}
    now = max(info.modified for info in store.list(""))
    assert sweep(runs.config, store, older_than_s=DAY_S, now=now + DAY_S - 60, apply=True).leftovers == []
    found = sweep(runs.config, store, older_than_s=DAY_S, now=now + DAY_S + 60, apply=True).leftovers
    assert {(each.kind, each.key) for each in found} == {("mark", key) for key in dead}
    assert everything(store) == before
    assert runs.publish(store).version == runs.version
