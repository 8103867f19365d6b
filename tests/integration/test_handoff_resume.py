"""A large part that was cut off in the middle goes on from where it was, over real HTTP."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from persia_core.errors import Corrupt, StorageUnavailable
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.resume import PIECE_BYTES
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.transfer import download_parts
from tests.support.faulty_proxy import Fault, FaultyProxy, Request, faulty_proxy
from tests.support.versions import manifest_of

PREFIX, PART = "models/small/versions/v/", "embeddings/item.parquet"
CONTENT = np.random.default_rng(5).bytes(3 * PIECE_BYTES + 1000)
BROKEN_FROM = 2 * PIECE_BYTES  # requests for what lies behind this do not get through


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as running:
        yield running


@pytest.fixture
def through(proxy: FaultyProxy, s3_store: S3Store) -> S3Store:
    """The store seen through the proxy; it holds the part."""
    s3_store.put(PREFIX + PART, CONTENT)
    return S3Store(s3_store.url, proxy.url)


def manifest() -> Manifest:
    return manifest_of("model_version", "2026-11-02", {PART: CONTENT}, {})


def first_byte(request: Request) -> int | None:
    found = re.fullmatch(r"bytes=(\d+)-\d+", request.headers.get("Range", ""))
    return int(found[1]) if found else None


def refuses_the_end(request: Request) -> Fault | None:
    first = first_byte(request)
    return Fault("answer", 403, "AccessDenied") if first is not None and first >= BROKEN_FROM else None


def cut_off(proxy: FaultyProxy, through: S3Store, directory: Path) -> Path:
    """The first attempt; returns what it left."""
    proxy.rule = refuses_the_end
    with pytest.raises(StorageUnavailable):
        download_parts(through, PREFIX, manifest(), directory)
    assert not (directory / PART).exists()
    (left,) = (directory / "embeddings").iterdir()
    assert left.read_bytes() == CONTENT[:BROKEN_FROM]
    proxy.rule = lambda _: None
    proxy.seen.clear()
    return left


def asked_for(proxy: FaultyProxy) -> list[int]:
    found = [first for request in proxy.seen if (first := first_byte(request)) is not None]
    assert len(found) == len([r for r in proxy.seen if r.method == "GET" and r.path.endswith(PART)])
    return sorted(found)


def test_a_part_that_was_cut_off_goes_on_where_it_was(
    proxy: FaultyProxy, through: S3Store, tmp_path: Path
) -> None:
    cut_off(proxy, through, tmp_path)
    download_parts(through, PREFIX, manifest(), tmp_path)
    assert asked_for(proxy) == [BROKEN_FROM, BROKEN_FROM + PIECE_BYTES]
    assert (tmp_path / PART).read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "embeddings").iterdir()] == ["item.parquet"]


@pytest.mark.parametrize("damage", ["a byte", "too long"])
def test_what_was_damaged_meanwhile_is_fetched_anew(
    proxy: FaultyProxy, through: S3Store, tmp_path: Path, damage: str
) -> None:
    left = cut_off(proxy, through, tmp_path)
    left.write_bytes(b"x" + CONTENT[1:BROKEN_FROM] if damage == "a byte" else CONTENT + b"x")
    download_parts(through, PREFIX, manifest(), tmp_path)
    assert {0, PIECE_BYTES} <= set(asked_for(proxy))
    assert hashlib.sha256((tmp_path / PART).read_bytes()).digest() == hashlib.sha256(CONTENT).digest()


def test_an_object_that_is_not_the_part_is_refused_and_leaves_nothing_to_go_on_from(
    proxy: FaultyProxy, through: S3Store, s3_store: S3Store, tmp_path: Path
) -> None:
    cut_off(proxy, through, tmp_path)
    s3_store.put(PREFIX + PART, CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(Corrupt, match="another SHA-256"):
        download_parts(through, PREFIX, manifest(), tmp_path)
    assert list((tmp_path / "embeddings").iterdir()) == []


def test_a_link_in_the_place_of_what_was_left_is_not_written_through(
    proxy: FaultyProxy, through: S3Store, tmp_path: Path
) -> None:
    left = cut_off(proxy, through, tmp_path / "cache")
    (tmp_path / "precious").write_bytes(b"mine")
    left.unlink()
    left.symlink_to(tmp_path / "precious")
    download_parts(through, PREFIX, manifest(), tmp_path / "cache")
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert (tmp_path / "cache" / PART).read_bytes() == CONTENT
