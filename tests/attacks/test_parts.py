"""Damaged and exchanged parts and pointers, and a cache that leads elsewhere: nothing is loaded."""

import json
import os
import random
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from persia_core.errors import Corrupt, PersiaError, PromotionRefused
from persia_core.handoff.champion import require_verdict
from persia_core.handoff.consume import pick_up
from persia_core.handoff.layout import MANIFEST, verdict_key
from persia_core.handoff.models import read_version
from persia_core.handoff.pointer import CHAMPION, read_pointer
from tests.attacks.victim import DS, Victim
from tests.support.versions import MODEL

EVERY_BYTE = 4096  # of smaller files each byte is flipped, of larger ones some


def positions(size: int) -> list[int]:
    if size <= EVERY_BYTE:
        return list(range(size))
    return sorted({0, size - 1, *random.Random(0).sample(range(size), 200)})


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :]


def test_a_flipped_byte_in_any_part_is_found(victim: Victim) -> None:
    """At the ends and in the middle of every part; the damaged file is not left in the cache."""
    for path in victim.parts():
        data = path.read_bytes()
        for position in (0, len(data) // 2, len(data) - 1):
            shutil.rmtree(victim.cache, ignore_errors=True)  # what is whole there is not fetched again
            path.write_bytes(flipped(data, position))
            with pytest.raises(Corrupt, match=re.escape(path.name)):
                pick_up(victim.store, MODEL, victim.cache)
            assert not (victim.cache / victim.version / path.relative_to(victim.directory)).exists()
        path.write_bytes(data)
    pick_up(victim.store, MODEL, victim.cache)


def test_a_flipped_byte_in_a_cached_part_is_found_and_mended(victim: Victim) -> None:
    pick_up(victim.store, MODEL, victim.cache)
    for part in victim.parts():
        cached = victim.cache / victim.version / part.relative_to(victim.directory)
        cached.write_bytes(flipped(part.read_bytes(), part.stat().st_size // 2))
    pick_up(victim.store, MODEL, victim.cache)
    for part in victim.parts():
        cached = victim.cache / victim.version / part.relative_to(victim.directory)
        if part.parent.name == "embeddings":  # a table counts as whole if it holds the very rows
            assert pq.read_table(cached).equals(pq.read_table(part))
        else:
            assert cached.read_bytes() == part.read_bytes()


def test_a_flipped_byte_in_the_manifest_is_found(victim: Victim) -> None:
    path = victim.directory / MANIFEST
    data = path.read_bytes()
    for position in positions(len(data)):
        path.write_bytes(flipped(data, position))
        with pytest.raises(Corrupt):
            pick_up(victim.store, MODEL, victim.cache)
    assert not victim.cache.exists()  # found before anything was fetched


def test_a_flipped_byte_in_the_pointer_names_no_other_model(victim: Victim) -> None:
    """Either it is refused, or only words for people have changed."""
    whole = read_pointer(victim.store, MODEL, CHAMPION)
    assert whole is not None
    data = victim.pointer.read_bytes()
    version = victim.version
    refused = 0
    for position in positions(len(data)):
        victim.pointer.write_bytes(flipped(data, position))
        try:
            found = read_pointer(victim.store, MODEL, CHAMPION)
            assert found is not None
            named = (found[0].version, found[0].manifest_sha256, found[0].ds)
            if named == (version, whole[0].manifest_sha256, DS):
                continue
            pick_up(victim.store, MODEL, victim.cache)
        except Corrupt:
            refused += 1
            continue
        raise AssertionError(f"a model was loaded with byte {position} of the pointer flipped")
    assert refused > len(version) + 64  # every byte of the name and of the checksum, among others
    assert not victim.cache.exists()


def test_a_flipped_byte_in_a_verdict_lets_no_other_version_through(victim: Victim) -> None:
    """The verdict is on exactly this manifest, and says no; flipped, it still never says yes."""
    sha256 = read_version(victim.store, MODEL, victim.version).sha256
    key = victim.root / "store" / verdict_key(MODEL, victim.version)
    verdict = json.loads(key.read_bytes())
    verdict["passed"] = verdict["checks"][0]["passed"] = False
    data = json.dumps(verdict).encode()
    for position in positions(len(data)):
        key.write_bytes(flipped(data, position))
        with pytest.raises((Corrupt, PromotionRefused)):
            require_verdict(victim.store, MODEL, victim.version, sha256)


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "gone", "a folder"])
def test_a_part_of_another_size_is_refused_before_any_is_fetched(victim: Victim, change: str) -> None:
    for path in victim.parts():
        data = path.read_bytes()
        match change:
            case "cut":
                path.write_bytes(data[:-1])
            case "longer":
                path.write_bytes(data + b"\0")
            case "empty":
                path.write_bytes(b"")
            case "gone":
                path.unlink()
            case "a folder":
                path.unlink()
                path.mkdir()
        with pytest.raises(Corrupt, match=re.escape(path.name)):
            pick_up(victim.store, MODEL, victim.cache)
        assert [each for each in victim.cache.rglob("*") if each.is_file()] == []
        if path.is_dir():
            path.rmdir()
        path.write_bytes(data)


def test_parts_that_were_swapped_are_refused(victim: Victim) -> None:
    """Both are whole; each lies where the other belongs. Of one size, too."""
    first, second = (victim.directory / "embeddings" / f"{name}.parquet" for name in ("user", "item"))
    one, two = first.read_bytes(), second.read_bytes()
    for left, right in ((two, one), (one[::-1], two)):
        first.write_bytes(left)
        second.write_bytes(right)
        with pytest.raises(Corrupt, match=r"user\.parquet|item\.parquet"):
            pick_up(victim.store, MODEL, victim.cache)


def test_parts_that_were_swapped_with_their_checksums_are_refused(victim: Victim) -> None:
    """Whoever writes the manifest, too, is stopped by what the files say of themselves."""
    first, second = (victim.directory / "embeddings" / f"{name}.parquet" for name in ("user", "item"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    victim.seal()
    with pytest.raises(Corrupt, match=r"user\.parquet|item\.parquet"):
        pick_up(victim.store, MODEL, victim.cache)


@pytest.mark.parametrize(
    "version", [f"{DS}-000000000000", f"{DS}-x", "../../x", "latest", "", f"{DS}/x", "."]
)
def test_a_pointer_to_a_version_that_does_not_exist_loads_nothing(victim: Victim, version: str) -> None:
    pointer = json.loads(victim.pointer.read_bytes())
    victim.pointer.write_bytes(json.dumps(pointer | {"version": version}).encode())
    with pytest.raises(Corrupt):
        pick_up(victim.store, MODEL, victim.cache)
    assert not victim.cache.exists()


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b"null", b"\xff", b'{"version": 1}', b'"' + b"x" * (1 << 20) + b'"']
)
def test_what_is_no_pointer_is_refused(victim: Victim, content: bytes) -> None:
    victim.pointer.write_bytes(content)
    with pytest.raises(Corrupt, match=r"champion\.json"):
        pick_up(victim.store, MODEL, victim.cache)
    assert not victim.cache.exists()


def outside(victim: Victim) -> Path:
    """What a link in the cache leads to, with a file that must not change."""
    target = victim.root / "outside"
    target.mkdir()
    (target / "schema.json").write_bytes(b"mine")
    return target


@pytest.mark.parametrize("where", ["version", "folder", "part", "dangling part", "part to the real one"])
def test_a_cache_that_leads_elsewhere_is_refused(victim: Victim, where: str) -> None:
    target = outside(victim)
    here = victim.cache / victim.version
    link, to = {
        "version": (here, target),
        "folder": (here / "embeddings", target),
        "part": (here / "schema.json", target / "schema.json"),
        "dangling part": (here / "embeddings" / "user.parquet", target / "new"),
        "part to the real one": (here / "schema.json", victim.directory / "schema.json"),
    }[where]
    link.parent.mkdir(parents=True)
    link.symlink_to(to)
    with pytest.raises(Corrupt, match="symbolic link"):
        pick_up(victim.store, MODEL, victim.cache)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"schema.json": b"mine"}
    link.unlink()
    pick_up(victim.store, MODEL, victim.cache)


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_a_cache_with_something_else_in_place_of_a_part_is_refused(victim: Victim, what: str) -> None:
    path = victim.cache / victim.version / "schema.json"
    path.parent.mkdir(parents=True)
    if what == "folder":
        path.mkdir()
        with pytest.raises(PersiaError, match=r"schema\.json"):
            pick_up(victim.store, MODEL, victim.cache)
        return
    os.mkfifo(path)  # nobody writes into it: opening it would wait for ever
    assert pick_up(victim.store, MODEL, victim.cache).version == victim.version
    assert path.is_file()
