"""What the S3 store does when the service or the way to it misbehaves, over real HTTP."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persia_core.errors import StorageUnavailable
from persia_core.handoff.object_store import PreconditionFailed
from persia_core.handoff.s3_store import S3Store
from tests.support.faulty_proxy import Fault, FaultyProxy, Request, faulty_proxy, first

LOSE, CUT = Fault("lose reply"), Fault("cut body")


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as running:
        yield running


@pytest.fixture
def through(proxy: FaultyProxy, s3_url: str) -> S3Store:
    """The store seen through the proxy."""
    return S3Store(s3_url, proxy.url)


def test_a_write_whose_reply_is_lost_is_known_as_ours(
    proxy: FaultyProxy, through: S3Store, s3_store: S3Store
) -> None:
    proxy.rule = first(1, LOSE, "PUT", "/new")
    etag = through.put_if_absent("new", b"ours")
    assert (s3_store.get("new").data, s3_store.get("new").etag) == (b"ours", etag)
    proxy.rule = first(1, LOSE, "PUT", "/new")
    second = through.put_if_match("new", b"ours too", etag)
    assert (s3_store.get("new").data, s3_store.get("new").etag) == (b"ours too", second)
    assert [r.method for r in proxy.seen] == ["PUT", "PUT", "GET"] * 2


def test_a_write_whose_reply_is_lost_is_not_taken_for_somebody_elses(
    proxy: FaultyProxy, through: S3Store, s3_store: S3Store
) -> None:
    s3_store.put("taken", b"theirs")
    proxy.rule = first(1, LOSE, "PUT", "/taken")
    with pytest.raises(PreconditionFailed):
        through.put_if_absent("taken", b"ours")
    assert s3_store.get("taken").data == b"theirs"


def test_without_a_lost_reply_equal_bytes_of_another_writer_are_not_ours(s3_store: S3Store) -> None:
    s3_store.put_if_absent("same", b"bytes")
    with pytest.raises(PreconditionFailed):
        s3_store.put_if_absent("same", b"bytes")


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_a_conflict_of_conditional_writes_is_retried(
    proxy: FaultyProxy, through: S3Store, s3_store: S3Store, code: str
) -> None:
    proxy.rule = first(3, Fault("answer", 409, code), "PUT", "/new")
    through.put_if_absent("new", b"ours")
    assert s3_store.get("new").data == b"ours"
    assert len(proxy.seen) == 4


def test_a_conflict_that_does_not_end_is_said_so(proxy: FaultyProxy, through: S3Store) -> None:
    proxy.rule = first(99, Fault("answer", 409, "ConditionalRequestConflict"), "PUT", "/new")
    with pytest.raises(StorageUnavailable, match="409 ConditionalRequestConflict"):
        through.put_if_absent("new", b"ours")


def test_a_service_that_wants_the_etag_without_quotes(
    proxy: FaultyProxy, through: S3Store, s3_store: S3Store
) -> None:
    def ceph(request: Request) -> Fault | None:
        tag = request.headers.get("If-Match")
        if tag is None:
            return None
        if tag.startswith('"'):
            return Fault("answer", 412, "PreconditionFailed")
        request.headers["If-Match"] = f'"{tag}"'
        return None

    proxy.rule = ceph
    first_tag = through.put("pointer", b"1")
    second_tag = through.put_if_match("pointer", b"2", first_tag)
    assert s3_store.get("pointer").data == b"2"
    for stale in (first_tag, first_tag):  # while it finds out, and once it knows
        with pytest.raises(PreconditionFailed):
            through.put_if_match("pointer", b"3", stale)
        with pytest.raises(PreconditionFailed):
            S3Store(through.url, proxy.url).put_if_match("pointer", b"3", stale)
    through.put_if_match("pointer", b"4", second_tag)
    assert s3_store.get("pointer").data == b"4"


def test_a_stale_etag_is_sent_once_only(proxy: FaultyProxy, through: S3Store) -> None:
    stale = through.put("pointer", b"1")
    through.put("pointer", b"2")
    proxy.seen.clear()
    with pytest.raises(PreconditionFailed):
        through.put_if_match("pointer", b"3", stale)
    assert [(r.method, r.headers.get("If-Match")) for r in proxy.seen] == [("PUT", stale), ("GET", None)]


def test_a_body_that_breaks_off_is_read_again(
    proxy: FaultyProxy, through: S3Store, s3_store: S3Store, tmp_path: Path
) -> None:
    s3_store.put("object", bytes(range(256)) * 100)
    proxy.rule = first(2, CUT, "GET", "/object")
    assert through.get("object").data == bytes(range(256)) * 100
    proxy.rule = first(2, CUT, "GET", "/object")
    through.download("object", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == bytes(range(256)) * 100


def test_a_body_that_always_breaks_off_ends_in_an_error_and_no_file(
    proxy: FaultyProxy, through: S3Store, s3_store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.put("object", bytes(1000))
    proxy.rule = first(99, CUT, "GET", "/object")
    with pytest.raises(StorageUnavailable):
        through.get("object")
    with pytest.raises(StorageUnavailable):
        through.download("object", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [500, 503])
def test_a_service_that_is_busy_for_a_moment_is_asked_again(
    proxy: FaultyProxy, through: S3Store, s3_store: S3Store, status: int
) -> None:
    proxy.rule = first(2, Fault("answer", status, "SlowDown"), "PUT", "/object")
    through.put("object", b"1")
    assert s3_store.get("object").data == b"1"
    assert len(proxy.seen) == 3


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AccessDenied", "read, write and list"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_refused_credentials_are_said_so(
    proxy: FaultyProxy, through: S3Store, tmp_path: Path, code: str, remedy: str
) -> None:
    proxy.rule = lambda _: Fault("answer", 403, code)
    (tmp_path / "x").write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: through.get("a"),
        lambda: through.put_if_absent("a", b"x"),
        lambda: through.put_if_match("a", b"x", '"e"'),
        lambda: list(through.list("")),
        lambda: through.upload(tmp_path / "x", "a"),
        lambda: through.delete("a"),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable, match=code) as caught:
            call()
        assert proxy.url in caught.value.what
        assert remedy in caught.value.remedy
    with pytest.raises(StorageUnavailable):
        through.download("a", tmp_path / "y")
    assert not (tmp_path / "y").exists()
