"""Cuts in the object store: what a retry on another host finds, and what nobody may take for a checkpoint."""

import logging
import threading
from pathlib import Path

import pytest

from persia_core.checkpoint.cuts import Cut, cuts_of, prune_cuts
from persia_core.checkpoint.select import latest_checkpoint
from persia_core.checkpoint.stored_cuts import StoredCuts
from persia_core.errors import RankFailed, StorageUnavailable
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.sweep import LEAST_AGE_S, sweep
from persia_core.launch.upload_cuts import CutUpload
from tests.support.faulty_proxy import Fault, Request, Rule, faulty_proxy
from tests.support.small_config import small_config
from tests.unit.test_cuts import IDENTITY, write_cut


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def stored(store: ObjectStore) -> StoredCuts:
    return StoredCuts(store, "m", IDENTITY.ds, "run")


def put(store: ObjectStore, run_dir: Path, *steps: int, **changes: str) -> StoredCuts:
    cuts = stored(store)
    for step in steps:
        cuts.put(Cut(step, write_cut(run_dir, step, **changes)))
    return cuts


def test_another_host_gets_the_newest_one_as_it_was(s3_store: S3Store, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    cuts = put(s3_store, here, 9, 10, 100)
    assert cuts.steps() == [100, 10, 9]
    found = cuts.newest_whole(there, IDENTITY, after=0)
    assert found == Cut(100, there / "cuts" / "100")
    for path in (here / "cuts" / "100").iterdir():
        if path.name != "manifest.json":
            assert (found.directory / path.name).read_bytes() == path.read_bytes()
    assert [cut.step for cut in cuts_of(there)] == [100]
    assert cuts.newest_whole(tmp_path / "third", IDENTITY, after=100) is None
    assert latest_checkpoint(s3_store, "m", "2030-01-01") is None, "a cut is no checkpoint of its day"
    cuts.prune(2)
    assert cuts.steps() == [100, 10]
    put(s3_store, tmp_path / "other", 100, ds="2026-01-02")
    cuts.remove_all()
    assert list(s3_store.list("")) == []


@pytest.mark.parametrize("way", ["flipped", "missing", "foreign", "manifest"])
def test_what_cannot_be_used_is_named_and_removed_and_the_next_older_is_taken(
    store: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    cuts = put(store, tmp_path / "here", 9)
    if way == "foreign":
        put(store, tmp_path / "here", 100, hashed_digest="e" * 64)
    else:
        put(store, tmp_path / "here", 100)
    prefix = f"cuts/m/ds={IDENTITY.ds}/run/100/"
    if way == "flipped":
        store.put(prefix + "state.json", b"state.json at 10x")
    elif way == "missing":
        store.delete(prefix + "state.json")
    elif way == "manifest":
        store.put(prefix + "manifest.json", b"{")
    with caplog.at_level(logging.WARNING):
        found = cuts.newest_whole(tmp_path / "there", IDENTITY, after=0)
    assert found is not None and found.step == 9
    expected = {"foreign": "another hashed partition", "manifest": "manifest.json"}.get(way, "100/state.json")
    assert expected in caplog.text
    assert cuts.steps() == [9]
    assert not (tmp_path / "there" / "cuts" / "100").exists()


def test_a_cut_of_another_attempt_at_the_same_step_gives_way(store: LocalStore, tmp_path: Path) -> None:
    put(store, tmp_path / "first", 9)
    directory = write_cut(tmp_path / "second", 9)
    (tmp_path / "other").mkdir()
    changed = write_cut(tmp_path / "other", 10)  # other bytes
    for path in directory.iterdir():
        path.write_bytes((changed / path.name).read_bytes())
    cuts = stored(store)
    cuts.put(Cut(9, directory))
    found = cuts.newest_whole(tmp_path / "there", IDENTITY, after=0)
    assert found is not None
    assert (found.directory / "state.json").read_bytes() == b"state.json at 10"


class Watched(LocalStore):
    """Says when a part is stored, and can be made to fail."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.broken = False

    def upload(self, path: Path, key: str) -> None:
        self.begun.set()
        self.go_on.wait(60)
        if self.broken:
            raise OSError("no way to the store")
        super().upload(path, key)


def test_a_cut_that_the_job_removes_meanwhile_is_stored_all_the_same(tmp_path: Path) -> None:
    store, run_dir = Watched(tmp_path / "store"), tmp_path / "run"
    store.go_on.clear()
    upload = CutUpload(stored(store), run_dir, keep=1)
    with upload:
        write_cut(run_dir, 9)
        assert store.begun.wait(60)
        write_cut(run_dir, 10)
        prune_cuts(run_dir, 1)
        store.go_on.set()
    assert stored(store).newest_whole(tmp_path / "there", IDENTITY, after=8) is not None
    assert upload.counts["not_stored"] == 0
    assert [path.name for path in (run_dir / "cuts").iterdir()] == ["10"]


def test_the_newest_cut_is_stored_before_a_failure_is_told(tmp_path: Path) -> None:
    store, run_dir = LocalStore(tmp_path / "store"), tmp_path / "run"
    with pytest.raises(RankFailed), CutUpload(stored(store), run_dir, keep=1):
        write_cut(run_dir, 9)
        write_cut(run_dir, 12)
        raise RankFailed("trainer 0 died", "run again")
    assert 12 in stored(store).steps()


def test_a_store_out_of_reach_is_counted_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, run_dir = Watched(tmp_path / "store"), tmp_path / "run"
    store.broken = True
    write_cut(run_dir, 9)
    with pytest.raises(RankFailed), CutUpload(stored(store), run_dir, keep=1) as upload:
        raise RankFailed("trainer 0 died", "run again")
    assert upload.counts == {"stored": 0, "not_stored": 1}
    assert "cut at step 9 could not be stored: no way to the store" in caplog.text
    assert stored(store).steps() == []


def fails_at(number: int) -> Rule:
    """The request of that number, from 1, is refused."""
    count = [0]

    def rule(_: Request) -> Fault | None:
        count[0] += 1
        return Fault("answer", 403, "AccessDenied") if count[0] == number else None

    return rule


def test_whichever_request_fails_there_is_a_whole_cut_or_none_and_the_next_attempt_works(
    s3_endpoint: str, s3_url: str, s3_store: S3Store, tmp_path: Path
) -> None:
    cut = Cut(9, write_cut(tmp_path / "here", 9))
    with faulty_proxy(s3_endpoint) as proxy:
        through = stored(S3Store(s3_url, proxy.url))
        through.put(cut)
        for_put = len(proxy.seen)
        for number in range(1, for_put + 1):
            stored(s3_store).remove_all()
            proxy.rule = fails_at(number)
            with pytest.raises(StorageUnavailable):
                through.put(cut)
            assert stored(s3_store).steps() == [], "the manifest is the last request"
        proxy.rule = lambda _: None
        through.put(cut)
        proxy.seen.clear()
        assert through.newest_whole(tmp_path / "there", IDENTITY, after=0) is not None
        for number in range(1, len(proxy.seen) + 1):
            proxy.rule = fails_at(number)
            run_dir = tmp_path / f"there {number}"
            with pytest.raises(StorageUnavailable):
                through.newest_whole(run_dir, IDENTITY, after=0)
            assert cuts_of(run_dir) == []
            assert stored(s3_store).steps() == [9], "what cannot be read is not taken for damaged"
    assert for_put > len(list(cut.directory.iterdir()))


def test_a_cut_that_was_never_completed_is_swept(store: LocalStore, tmp_path: Path) -> None:
    cuts = put(store, tmp_path / "run", 9, 10)
    prefix = f"cuts/m/ds={IDENTITY.ds}/run/"
    store.delete(f"{prefix}10/manifest.json")
    later = max(info.modified for info in store.list(prefix)) + 2 * LEAST_AGE_S
    found = sweep(small_config(name="m"), store, older_than_s=LEAST_AGE_S, now=later, apply=True)
    assert [each.key for each in found.leftovers] == [f"{prefix}10/"]
    assert cuts.newest_whole(tmp_path / "there", IDENTITY, after=0) is not None
    assert {info.key.removeprefix(prefix).split("/")[0] for info in store.list(prefix)} == {"9"}
