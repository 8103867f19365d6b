"""Cuts in the object store: what a retry on another host finds, and what nobody may take for a checkpoint."""

import itertools
import logging
import shutil
import threading
from pathlib import Path

import pytest

from persia_core.checkpoint.cuts import Cut, cuts_of, newest_whole_cut, prune_cuts
from persia_core.checkpoint.select import latest_checkpoint
from persia_core.checkpoint.stored_cuts import StoredCuts
from persia_core.errors import RankFailed, StorageUnavailable
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.object_store import ObjectStore, Stored
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.sweep import LEAST_AGE_S, sweep
from persia_core.launch.upload_cuts import CutUpload
from tests.support.faulty_proxy import Fault, Request, Rule, faulty_proxy
from tests.support.small_config import small_config
from tests.unit.test_cut_chain import replace_by_another_attempt, write_chain
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


def test_a_delta_is_stored_with_its_base_which_stays_as_long_as_it_is_needed(
    s3_store: S3Store, tmp_path: Path
) -> None:
    here, there, cuts = tmp_path / "here", tmp_path / "there", stored(s3_store)
    *_, old = write_chain(here, 2, 3)
    base, _, newest = write_chain(here, 4, 8, 12)
    cuts.put(Cut(3, old))
    cuts.put(Cut(4, base))
    cuts.put(Cut(12, newest))  # the cut at 8 was overtaken
    assert cuts.steps() == [12, 8, 4, 3, 2]
    cuts.prune(1)
    assert cuts.steps() == [12, 8, 4]
    assert cuts.newest_whole(there, IDENTITY, after=4) == Cut(12, there / "cuts" / "12")
    assert newest_whole_cut(there, IDENTITY) == Cut(12, there / "cuts" / "12")
    for path in (here / "cuts").rglob("*.safetensors"):
        if path.parent.name not in ("2", "3"):
            assert (there / path.relative_to(here)).read_bytes() == path.read_bytes()
    cuts.put(Cut(13, write_cut(here, 13)))
    cuts.prune(1)
    assert cuts.steps() == [13]


@pytest.mark.parametrize(("step", "left"), [(4, 3), (8, 4)])
@pytest.mark.parametrize(
    "way", ["flipped", "missing", "flipped manifest", "missing manifest", "another attempt"]
)
def test_damage_beneath_a_stored_delta_is_named_and_the_newest_without_it_is_taken(
    store: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str, step: int, left: int
) -> None:
    cuts, here, there = stored(store), tmp_path / "here", tmp_path / "there"
    for steps in ((2, 3), (4, 8, 12)):
        newest = write_chain(here, *steps)[-1]
        cuts.put(Cut(steps[-1], newest))
    part = "embedding-0.safetensors" if way in ("flipped", "missing") else "manifest.json"
    key = f"cuts/m/ds={IDENTITY.ds}/run/{step}/{part}"
    if way == "another attempt":
        replace_by_another_attempt(here / "cuts" / str(step))
        cuts.put(Cut(step, here / "cuts" / str(step)))
        left = step  # whole by itself
    elif way.startswith("missing"):
        store.delete(key)
    else:
        data = store.get(key).data
        store.put(key, data.replace(b" at ", b" bt ").replace(b"parts", b"pbrts"))
    with caplog.at_level(logging.WARNING):
        found = cuts.newest_whole(there, IDENTITY, after=0)
    assert found == Cut(left, there / "cuts" / str(left))
    assert newest_whole_cut(there, IDENTITY) == found
    assert cuts.steps() == [s for s in (12, 8, 4, 3, 2) if s <= left]
    (line,) = (each.getMessage() for each in caplog.records if "12/ is damaged: " in each.getMessage())
    assert key in line


class FailsAt(LocalStore):
    """The call of that number, from 0, does not get through."""

    def __init__(self, root: Path, number: int) -> None:
        super().__init__(root)
        self.calls, self.number = itertools.count(), number

    def _count(self) -> None:
        if next(self.calls) == self.number:
            raise StorageUnavailable(f"call {self.number} failed", "try again")

    def get(self, key: str) -> Stored:
        self._count()
        return super().get(key)

    def put_if_absent(self, key: str, data: bytes) -> str:
        self._count()
        return super().put_if_absent(key, data)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)

    def upload(self, path: Path, key: str) -> None:
        self._count()
        super().upload(path, key)

    def download(self, key: str, path: Path) -> None:
        self._count()
        super().download(key, path)


def test_whichever_call_fails_every_stored_delta_has_what_it_follows(tmp_path: Path) -> None:
    *_, first = write_chain(tmp_path / "here", 4, 8)
    *_, newest = write_chain(tmp_path / "here", 10, 11)
    stored(LocalStore(tmp_path / "store")).put(Cut(8, first))
    for number in itertools.count():
        root = shutil.copytree(tmp_path / "store", tmp_path / f"store {number}")
        failing = FailsAt(root, number)
        try:
            stored(failing).put(Cut(11, newest))
            stored(failing).prune(1)
        except StorageUnavailable:
            pass
        steps = set(stored(LocalStore(root)).steps())
        assert steps in ({4, 8}, {4, 8, 10}, {4, 8, 10, 11}, {4, 10, 11}, {10, 11}), number
        assert stored(LocalStore(root)).newest_whole(tmp_path / f"there {number}", IDENTITY, after=0)
        if next(failing.calls) <= number:
            break
    assert number > 20 and steps == {10, 11}


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
    write_chain(run_dir, 8, 9)
    upload = CutUpload(stored(store), run_dir, keep=1)
    with upload:
        assert store.begun.wait(60)
        write_cut(run_dir, 10)
        prune_cuts(run_dir, 1)
        store.go_on.set()
    assert stored(store).steps() in ([9, 8], [10])
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
