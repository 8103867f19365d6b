"""A publisher that dies at its k-th call of the store, for every k."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from persia_core.handoff.consume import pick_up, pick_up_version
from persia_core.handoff.layout import version_prefix, versions_root
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CANDIDATE, read_pointer
from persia_core.handoff.publish import publish
from tests.support.exported_once import ExportedOnce
from tests.support.runs import make_day, make_run, small_config

DS = "2026-11-02"
LOOSE = {"min_rows": 50, "max_prediction_difference": 0.05}


def keys_of(store: ObjectStore, prefix: str) -> set[str]:
    return {info.key.removeprefix(prefix) for info in store.list(prefix)}


class Crash(Exception):
    """The process dies here."""


class CrashingStore:
    """Passes calls on; dies at the k-th one, before or after it took effect."""

    def __init__(self, store: ObjectStore, at: int, after: bool) -> None:
        self._store, self._at, self._after = store, at, after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value) or name == "uri":
            return value

        def call(*args: Any) -> Any:
            self.calls += 1
            dies = self.calls == self._at
            if dies and not self._after:
                raise Crash
            try:
                return value(*args)
            finally:
                if dies:
                    raise Crash

        return call


def complete_versions(store: ObjectStore) -> list[str]:
    root = versions_root("small")
    return sorted(k.split("/")[0] for k in keys_of(store, root) if k.endswith("/manifest.json"))


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_a_crash_at_any_call_leaves_nothing_half_visible_and_a_retry_completes(
    tmp_path: Path, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persia_core.handoff.transfer._PARALLEL", 1)  # so that the k-th call is one call
    monkeypatch.setattr("persia_core.handoff.publish.export_version", ExportedOnce(tmp_path / "exported"))
    document = small_config().model_dump()
    config = small_config(
        features=[
            feature for feature in document["features"] if feature["name"] in ("user", "price", "item")
        ],
        tables=[table for table in document["tables"] if table["name"] in ("user", "item")],
        export={"delta": True, "embeddings": "float16"},
        gates=LOOSE,
    )
    day = make_day(config, LocalStore(tmp_path / "days"), DS, rows=30)
    earlier = make_day(config, LocalStore(tmp_path / "days"), "2026-11-01", rows=30, seed=3)
    parent = publish(
        config, LocalStore(tmp_path / "parent"), earlier.ds, make_run(config, earlier, tmp_path / "p")
    )
    run = make_run(config, day, tmp_path / "run-1", parent=parent.checkpoint)

    def store_with_parent(name: str) -> LocalStore:
        shutil.copytree(tmp_path / "parent", tmp_path / name, copy_function=os.link)
        return LocalStore(tmp_path / name)

    counting = CrashingStore(store_with_parent("whole"), 0, after)
    whole = publish(config, counting, DS, run)
    assert counting.calls > 45
    stored = keys_of(LocalStore(tmp_path / "whole"), version_prefix("small", whole.version))
    assert {"delta/user.parquet", "delta/user.removed.parquet", "graph.pt2", "manifest.json"} <= stored
    for k in range(1, counting.calls + 1):
        store = store_with_parent(f"store-{k}")
        with pytest.raises(Crash):
            publish(config, CrashingStore(store, k, after), DS, run)
        if whole.version in complete_versions(store):
            pick_up_version(store, "small", whole.version, tmp_path / f"seen-{k}")
        found = read_pointer(store, "small", CANDIDATE)
        assert found is not None
        assert found[0].version in complete_versions(store)
        assert publish(config, store, DS, run) == whole
        assert complete_versions(store) == [parent.version, whole.version]
        assert pick_up(store, "small", tmp_path / f"m-{k}", CANDIDATE).version == whole.version
