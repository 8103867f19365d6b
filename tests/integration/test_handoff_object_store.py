"""The object stores: the same contract for S3 over HTTP and for a local directory."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from persia_core.config.model import Storage
from persia_core.errors import ConfigError, Corrupt, DiskFull, StorageUnavailable
from persia_core.handoff import keys
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.object_store import (
    NotFound,
    ObjectInfo,
    ObjectStore,
    PreconditionFailed,
    Stored,
    open_store,
)
from persia_core.handoff.s3_store import S3Store


@pytest.fixture(params=["s3", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "s3":
        return request.getfixturevalue("s3_store")  # type: ignore[no-any-return]
    return LocalStore(tmp_path / "store")


def test_bytes_come_back_as_they_were_put(store: ObjectStore) -> None:
    etag = store.put("a/b.json", b"\x00one")
    assert (store.get("a/b.json").data, store.get("a/b.json").etag) == (b"\x00one", etag)
    assert store.put("a/b.json", b"two") != etag
    assert store.get("a/b.json").data == b"two"


def test_a_missing_key_is_not_found(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a/b", b"1")
    with pytest.raises(NotFound, match="nothing"):
        store.get("a/nothing")
    with pytest.raises(NotFound):
        store.get("a")
    with pytest.raises(NotFound):
        store.download("a/nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_range_of_bytes_is_read(store: ObjectStore) -> None:
    data = bytes(range(256)) * 8
    store.put("a/b", data)
    for start, stop in ((0, 1), (5, 2000), (0, 2048), (2047, 9999), (7, 7)):
        assert store.read("a/b", start, stop) == data[start:stop]
    with pytest.raises(NotFound, match="nothing"):
        store.read("a/nothing", 0, 1)


def test_put_if_absent_writes_once(store: ObjectStore) -> None:
    etag = store.put_if_absent("m/manifest.json", b"first")
    with pytest.raises(PreconditionFailed):
        store.put_if_absent("m/manifest.json", b"second")
    with pytest.raises(PreconditionFailed):
        store.put_if_absent("m/manifest.json", b"first")
    assert (store.get("m/manifest.json").data, store.get("m/manifest.json").etag) == (b"first", etag)


def test_put_if_match_writes_only_over_what_was_read(store: ObjectStore) -> None:
    first = store.put("alias", b"1")
    second = store.put_if_match("alias", b"2", first)
    assert store.get("alias").etag == second
    with pytest.raises(PreconditionFailed):
        store.put_if_match("alias", b"3", first)
    assert store.get("alias").data == b"2"
    store.delete("alias")
    with pytest.raises(PreconditionFailed):
        store.put_if_match("alias", b"3", second)
    assert list(store.list("alias")) == []


def test_of_eight_who_create_one_wins(store: ObjectStore) -> None:
    for turn in range(25):  # an endpoint that compares and writes in two steps lets two win now and then
        key = f"race/{turn}"
        outcomes = race(8, lambda i: store.put_if_absent(key, f"writer {i}".encode()))  # noqa: B023
        winners = [i for i, error in enumerate(outcomes) if error is None]
        assert len(winners) == 1
        assert all(isinstance(error, PreconditionFailed) for error in outcomes if error is not None)
        assert store.get(key).data == f"writer {winners[0]}".encode()


def test_of_eight_who_swap_one_wins_each_round(store: ObjectStore) -> None:
    etag = store.put("pointer", b"start")
    for turn in range(5):
        seen = etag
        outcomes = race(8, lambda i: store.put_if_match("pointer", f"{turn}/{i}".encode(), seen))  # noqa: B023
        winners = [i for i, error in enumerate(outcomes) if error is None]
        assert len(winners) == 1
        assert all(isinstance(error, PreconditionFailed) for error in outcomes if error is not None)
        stored = store.get("pointer")
        assert stored.data == f"{turn}/{winners[0]}".encode()
        etag = stored.etag


def test_a_local_swap_compares_and_writes_in_one_step(tmp_path: Path) -> None:
    class Slow(LocalStore):
        """Gives everybody time to read the old content before anybody writes, if nothing prevents it."""

        def get(self, key: str) -> Stored:
            stored = super().get(key)
            time.sleep(0.05)
            return stored

    etag = LocalStore(tmp_path).put("pointer", b"start")
    outcomes = race(4, lambda i: Slow(tmp_path).put_if_match("pointer", f"{i}".encode(), etag))
    assert [type(error) for error in outcomes].count(PreconditionFailed) == 3
    assert LocalStore(tmp_path).get("pointer").data == f"{outcomes.index(None)}".encode()


def race(contestants: int, act: Callable[[int], object]) -> list[Exception | None]:
    barrier = threading.Barrier(contestants)

    def run(i: int) -> Exception | None:
        barrier.wait()
        try:
            act(i)
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(contestants) as pool:
        return list(pool.map(run, range(contestants)))


def test_a_listing_is_complete_ordered_and_relative(store: ObjectStore) -> None:
    put = {f"d/{i % 3}/{i:04d}": i % 7 for i in range(40)} | {"d-2": 1, "e/f": 2, "d/!": 3}
    for key, size in put.items():
        store.put(key, b"x" * size)
    for prefix in ("", "d", "d/", "d/1/", "d/1/00", "e/f", "nothing/", "d/0000"):
        expected = [ObjectInfo(key, put[key]) for key in sorted(put) if key.startswith(prefix)]
        assert list(store.list(prefix)) == expected


def test_a_listing_goes_over_more_than_one_page(s3_store: S3Store) -> None:
    names = [f"many/{i:05d}" for i in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: s3_store.put(name, b""), names))
    assert [info.key for info in s3_store.list("many/")] == names


@pytest.mark.parametrize("size", [0, 1, (17 << 20) + 3])
def test_files_go_up_and_come_down(store: ObjectStore, tmp_path: Path, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "in").write_bytes(content[:size])
    store.upload(tmp_path / "in", "files/in")
    (tmp_path / "out").write_bytes(b"older")
    store.download("files/in", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content[:size]
    store.download("files/in", tmp_path / "new" / "folder" / "out")
    assert (tmp_path / "new/folder/out").read_bytes() == content[:size]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_a_file_that_is_not_there_is_not_uploaded(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.upload(tmp_path / "nothing", "files/in")
    assert list(store.list("")) == []


def test_deleting_twice_is_no_error(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")
    with pytest.raises(NotFound):
        store.get("a/b")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../../b", "a/..", "./a", "a\\b", "a/\0", "a/"])
def test_keys_that_could_leave_the_store_are_refused(store: ObjectStore, key: str, tmp_path: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.put(key, b"x"),
        lambda: store.put_if_absent(key, b"x"),
        lambda: store.put_if_match(key, b"x", "e"),
        lambda: store.upload(tmp_path / "x", key),
        lambda: store.download(key, tmp_path / "y"),
        lambda: store.delete(key),
    ]
    (tmp_path / "x").write_bytes(b"x")
    for call in calls:
        with pytest.raises(ValueError, match="key"):
            call()
    assert list(store.list("")) == []


def test_get_does_not_read_a_huge_object_into_memory(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("huge", b"x" * 101)
    for module in ("s3_store", "local_store"):
        monkeypatch.setattr(f"persia_core.handoff.{module}.MAX_SMALL_OBJECT_BYTES", 100)
    with pytest.raises(Corrupt, match="huge"):
        store.get("huge")
    assert keys.MAX_SMALL_OBJECT_BYTES > 16 << 20


def test_a_full_disk_names_the_path_and_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a", b"1" * 4096)
    # /dev/full cannot be renamed into place, so the temporary file itself is made to be one
    target = tmp_path / "full" / "out"
    target.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uuid.uuid4", FixedName)
        (target.parent / ".out.fixed").symlink_to("/dev/full")
        patch.setattr(Path, "open", _open_existing(Path.open))
        with pytest.raises(DiskFull, match=str(target)):
            store.download("a", target)
    assert list(target.parent.iterdir()) == []


class FixedName:
    hex = "fixed"


def _open_existing(opened: Any) -> Any:
    def call(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return opened(path, mode.replace("x", "w"), *args, **kwargs)

    return call


def test_stores_opened_by_url(tmp_path: Path, s3_endpoint: str, s3_url: str) -> None:
    local = open_store(Storage(url=f"file://{tmp_path}/store"))
    remote = open_store(Storage(url=s3_url, endpoint_url=s3_endpoint))
    local.put("a", b"local")
    remote.put("a", b"remote")
    assert (tmp_path / "store" / "a").read_bytes() == b"local"
    bucket = s3_url.split("/")[2]
    answer = boto3.client("s3", endpoint_url=s3_endpoint).get_object(Bucket=bucket, Key="persia/a")
    assert answer["Body"].read() == b"remote"
    assert (remote.uri("a"), local.uri("a")) == (f"{s3_url}/a", f"file://{tmp_path}/store/a")


def test_a_local_store_keeps_its_own_files_out_of_sight(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    store.put_if_absent("b", b"1")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert [info.key for info in store.list("")] == ["a", "b"]
    with pytest.raises(ValueError, match="own"):
        store.get(".store/lock")
    assert list((tmp_path / ".store" / "tmp").iterdir()) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable, match="file") as caught:
        LocalStore(tmp_path / "file" / "store").put("a", b"1")
    assert str(tmp_path / "file") in caught.value.remedy


def every_call(store: S3Store, tmp_path: Path) -> list[Callable[[], object]]:
    (tmp_path / "x").write_bytes(b"x")
    return [
        lambda: store.get("a"),
        lambda: store.put("a", b"x"),
        lambda: store.put_if_absent("a", b"x"),
        lambda: store.put_if_match("a", b"x", '"e"'),
        lambda: list(store.list("")),
        lambda: store.upload(tmp_path / "x", "a"),
        lambda: store.download("a", tmp_path / "y"),
        lambda: store.delete("a"),
    ]


def test_an_endpoint_that_nobody_serves_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persia_core.handoff.s3_store._ATTEMPTS", 1)  # without the waits between attempts
    endpoint = "http://127.0.0.1:9"
    for call in every_call(S3Store("s3://bucket", endpoint), tmp_path):
        with pytest.raises(StorageUnavailable) as caught:
            call()
        assert endpoint in caught.value.what
        assert "endpoint_url" in caught.value.remedy
    assert not (tmp_path / "y").exists()


def test_a_missing_bucket_is_named_with_the_way_to_create_it(s3_endpoint: str, tmp_path: Path) -> None:
    for call in every_call(S3Store("s3://no-such-bucket", s3_endpoint), tmp_path):
        with pytest.raises(StorageUnavailable, match="no-such-bucket") as caught:
            call()
        assert f"--endpoint-url {s3_endpoint} s3 mb s3://no-such-bucket" in caught.value.remedy


def test_no_credentials_are_said_so(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for call in every_call(S3Store("s3://bucket", s3_endpoint), tmp_path):
        with pytest.raises(StorageUnavailable, match="credentials") as caught:
            call()
        assert "AWS_ACCESS_KEY_ID" in caught.value.remedy


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "http://bucket"])
def test_a_url_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="bucket"):
        S3Store(url)
