"""Retiring and sweeping at a real endpoint: what goes, in which order, and what a crash or a race leaves."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from persia_core.cli import main
from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, PromotionRefused
from persia_core.handoff.layout import (
    MANIFEST,
    alias_key,
    version_prefix,
)
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.models import version_names
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CANDIDATE, CHAMPION, Pointer, swap_pointer
from persia_core.handoff.promote import promote
from persia_core.handoff.retire import retire
from persia_core.handoff.rollback import rollback
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.sweep import sweep
from persia_core.handoff.transfer import download_and_verify
from tests.support.runs import small_config
from tests.support.versions import MODEL, champion_of, everything, fill

DAYS = [f"2026-11-{day:02d}" for day in range(1, 9)]
DAY_S = 86_400.0


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))


@pytest.fixture
def config() -> ModelConfig:
    policy = {"versions": 2, "days": 0, "champions": 1, "checkpoint_partitions": 2, "partition_days": 3}
    return small_config(retention=policy)


def name_candidate(store: ObjectStore, version: str) -> None:
    sha256 = hashlib.sha256(store.get(version_prefix(MODEL, version) + MANIFEST).data).hexdigest()
    pointer = Pointer(
        version=version, ds=version[:10], manifest_sha256=sha256, reason="r", action="published"
    )
    swap_pointer(store, MODEL, CANDIDATE, pointer, None)


def test_only_what_the_policy_does_not_keep_is_deleted_and_only_when_told(
    config: ModelConfig, s3_store: S3Store
) -> None:
    versions = fill(s3_store, DAYS)
    for number in (0, 1, 3, 4):
        promote(config, s3_store, versions[number])
    name_candidate(s3_store, versions[2])
    before = everything(s3_store)
    shown = retire(config, s3_store)
    assert everything(s3_store) == before
    kept = {2, 3, 4, 6, 7}  # candidate, was champion, champion, the two newest
    assert {each.name for each in shown.retired if each.kind == "version"} == {
        version for number, version in enumerate(versions) if number not in kept
    }
    done = retire(config, s3_store, apply=True)
    assert (done.retired, done.kept, done.objects, done.bytes) == (
        *(shown.retired, shown.kept, shown.objects, shown.bytes),
    )
    after = everything(s3_store)
    assert after == {key: data for key, data in before.items() if key in after}  # nothing was rewritten
    gone = before.keys() - after.keys()
    assert (len(gone), sum(len(before[key]) for key in gone)) == (done.objects, done.bytes)

    def days_of(prefix: str, ending: str) -> set[int]:
        return {
            number
            for number, ds in enumerate(DAYS)
            if any(key.startswith(prefix) and ds in key and key.endswith(ending) for key in after)
        }

    for ending in ("", MANIFEST):
        assert days_of(f"models/{MODEL}/versions/", ending) == kept
        assert days_of(f"checkpoints/{MODEL}/", ending) == kept  # the two newest partitions are among them
        # three days back from the newest, and what candidate and champion were trained on
        assert days_of("hashed/", ending) == {2, 4, 5, 6, 7}
        assert days_of("rejected/", ending) == {2, 4, 5, 6, 7}
    assert days_of("data_docs/", "") == {2, 4, 5, 6, 7}
    assert days_of(f"models/{MODEL}/verdicts/", "") == set(range(8))  # verdicts are for the record
    again = retire(config, s3_store, apply=True)
    assert (again.retired, again.objects) == ([], 0)
    assert rollback(config, s3_store, versions[3], "r", "Ada").moved


class Crash(Exception):
    """The process dies here."""


class CrashingStore:
    """Passes calls on; dies at the k-th deletion, before or after it took effect."""

    def __init__(self, store: ObjectStore, at: int, after: bool) -> None:
        self._store, self._at, self._after = store, at, after
        self.deletions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def delete(self, key: str) -> None:
        self.deletions += 1
        if self.deletions == self._at and not self._after:
            raise Crash
        self._store.delete(key)
        if self.deletions == self._at:
            raise Crash


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_a_crash_at_any_deletion_leaves_no_partial_version_and_a_sweep_ends_it(
    tmp_path: Path, after: bool
) -> None:
    policy = {"versions": 2, "days": 0, "champions": 1, "checkpoint_partitions": 2, "partition_days": 1}
    config = small_config(retention=policy)
    whole = LocalStore(tmp_path / "whole")
    fill(whole, DAYS[:4])
    counting = CrashingStore(whole, 0, after)
    retire(config, counting, apply=True)
    expected = everything(whole)
    assert counting.deletions > 25
    for k in range(1, counting.deletions + 1):
        store = LocalStore(tmp_path / f"store-{k}")
        fill(store, DAYS[:4])
        with pytest.raises(Crash):
            retire(config, CrashingStore(store, k, after), apply=True)
        for version in version_names(store, MODEL):
            prefix = version_prefix(MODEL, version)
            download_and_verify(store, prefix, tmp_path / f"seen-{k}" / version, "model_version")
        retire(config, store, apply=True)
        now = max(info.modified for info in store.list("")) + 2 * DAY_S
        sweep(config, store, older_than_s=DAY_S, now=now, apply=True)
        assert everything(store) == expected


def test_a_version_that_becomes_champion_while_it_is_retired_stays_whole(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str, tmp_path: Path
) -> None:
    """The rollback swaps the pointer between our look at the aliases and the deletion."""
    versions = fill(s3_store, DAYS[:5])
    for version in versions:
        promote(config, s3_store, version)
    victim = versions[1]

    class Overtaken(S3Store):
        def delete(self, key: str) -> None:
            if key == version_prefix(MODEL, victim) + MANIFEST:
                rollback(config, s3_store, victim, "r", "Ada")
            super().delete(key)

    done = retire(config, Overtaken(s3_store.url, s3_endpoint), apply=True)
    assert champion_of(s3_store) == victim
    assert victim in {each.name for each in done.kept}
    download_and_verify(s3_store, version_prefix(MODEL, victim), tmp_path / "v", "model_version")


def test_a_rollback_to_a_version_that_is_being_retired_is_refused_and_undone(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str
) -> None:
    """The manifest goes between the rollback's look at it and its swap; the retiring process saw no alias."""
    versions = fill(s3_store, DAYS[:5])
    for version in versions:
        promote(config, s3_store, version)

    class Meeting(S3Store):
        retired = False

        def put_if_match(self, key: str, data: bytes, etag: str) -> str:
            if not self.retired:
                self.retired = True
                retire(config, s3_store, apply=True)
            return super().put_if_match(key, data, etag)

    with pytest.raises(PromotionRefused, match="retired while"):
        rollback(config, Meeting(s3_store.url, s3_endpoint), versions[1], "r", "Ada")
    assert champion_of(s3_store) == versions[-1]


def test_two_that_retire_at_once_do_what_one_does(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str
) -> None:
    versions = fill(s3_store, DAYS[:5])
    for version in versions:
        promote(config, s3_store, version)
    expected = {each.name for each in retire(config, s3_store).retired}
    barrier = threading.Barrier(2)

    def run() -> None:
        barrier.wait(30)
        retire(config, S3Store(s3_store.url, s3_endpoint), apply=True)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = retire(config, s3_store)
    assert left.retired == []
    assert not expected & {each.name for each in left.kept}


@pytest.mark.parametrize("alias", [CANDIDATE, CHAMPION])
def test_with_a_damaged_alias_nothing_is_deleted(config: ModelConfig, s3_store: S3Store, alias: str) -> None:
    fill(s3_store, DAYS[:5])
    s3_store.put(alias_key(MODEL, alias), b"{")
    before = everything(s3_store)
    with pytest.raises(Corrupt, match=alias):
        retire(config, s3_store, apply=True)
    assert everything(s3_store) == before


def test_a_version_whose_manifest_cannot_be_read_is_left_alone(
    config: ModelConfig, s3_store: S3Store
) -> None:
    versions = fill(s3_store, DAYS[:5])
    s3_store.put(version_prefix(MODEL, versions[0]) + MANIFEST, b"{")
    done = retire(config, s3_store, apply=True)
    assert "cannot be read" in next(each.why for each in done.kept if each.name == versions[0])
    assert set(version_names(s3_store, MODEL)) == {versions[0], *versions[3:]}


def test_the_commands_show_first_and_delete_when_told(
    config: ModelConfig,
    s3_store: S3Store,
    s3_endpoint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    versions = fill(s3_store, DAYS[:5])
    promote(config, s3_store, versions[0])
    document = config.model_dump(mode="json")
    document["storage"] = {"url": s3_store.url, "endpoint_url": s3_endpoint}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(document))

    def run(*arguments: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--config", str(tmp_path / "model.yaml")])
        return ended.value.code, capsys.readouterr().out

    before = everything(s3_store)
    code, printed = run("retire")
    assert code == 0
    assert everything(s3_store) == before
    shown = json.loads(printed)
    assert shown["applied"] is False
    assert {each["name"]: each["why"] for each in shown["kept"]}[versions[0]] == "is champion"
    assert run("retire", "--apply")[0] == 0
    assert set(version_names(s3_store, MODEL)) == {versions[0], *versions[3:]}
    assert json.loads(run("sweep", "--older-than-hours", "1")[1]) == {"applied": False, "leftovers": []}
    assert run("sweep", "--older-than-hours", "0.5")[0] == 2
    assert run("rollback", "--to", versions[0], "--reason", "r")[0] == 0
    assert run("rollback", "--to", versions[1], "--reason", "r")[0] == 22
    _, printed = run("models", "history")
    assert [move["version"] for move in json.loads(printed)] == [versions[0]]
    assert run("promote", "--version", versions[3], "--force", "--reason", "r")[0] == 41
    assert run("promote", "--version", versions[3], "--force", "--reason", "r", "--who", "Ada")[0] == 0
    assert run("promote", "--version", versions[4])[0] == 0
    assert run("rollback", "--to", versions[3], "--reason", "worse", "--who", "Ada")[0] == 0
    _, printed = run("models", "history")
    history = [(move["version"], move["action"], move["reason"]) for move in json.loads(printed)]
    assert history == [
        (versions[3], "rolled back", "worse"),
        (versions[4], "promoted", "passed validation"),
        (versions[3], "forced", "r"),
        (versions[0], "promoted", "passed the gate"),
    ]
