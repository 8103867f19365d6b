"""Hostile manifests: refused before anything is fetched, and nothing is written beside the cache."""

import json
from pathlib import Path
from typing import Any

import pytest

from persia_core.errors import Corrupt
from persia_core.exit_codes import ExitCode
from persia_core.handoff.consume import pick_up
from persia_core.handoff.layout import MANIFEST
from tests.attacks.victim import Victim
from tests.support.versions import MODEL

SHA256 = "0" * 64


def refused(victim: Victim, match: str = ".") -> Corrupt:
    """The error; nothing was fetched, and nothing lies anywhere else."""
    beside = {path for path in victim.root.rglob("*") if not path.is_relative_to(victim.cache)}
    with pytest.raises(Corrupt, match=match) as caught:
        pick_up(victim.store, MODEL, victim.cache)
    assert caught.value.exit_code == ExitCode.CORRUPT
    assert caught.value.remedy
    assert {path for path in victim.root.rglob("*") if not path.is_relative_to(victim.cache)} == beside
    assert [path for path in victim.cache.rglob("*") if path.is_file()] == []
    return caught.value


def test_the_store_that_is_attacked_is_whole(victim: Victim) -> None:
    assert pick_up(victim.store, MODEL, victim.cache).version == victim.version
    victim.seal()  # an attacker's manifest that lists what is there is as good as ours
    assert pick_up(victim.store, MODEL, victim.cache).version == victim.version


@pytest.mark.parametrize(
    "path",
    [
        *("../outside", "../../../../tmp/outside", "a/../../outside", "embeddings/..", ".."),
        *("/etc/passwd", "//etc/passwd", "", ".", "./schema.json", "a//b", "a/", "a/./b"),
        *("..\\outside", "a\\..\\b", "C:\\outside", "a\0b", "a\nb", "a\tb", "\x7f", "a\x85b"),
        *(MANIFEST, "schema.json/inside", "x" * 256, "x/" * 2000 + "x", "é" * 128),
        *(".hidden", "embeddings/.user.parquet"),
    ],
)
def test_a_path_that_is_no_plain_name_below_the_version_is_refused(victim: Victim, path: str) -> None:
    document = victim.document()
    document["parts"].append({"path": path, "size": 1, "sha256": SHA256, "rows": None})
    victim.plant(document)
    refused(victim, "manifest")


@pytest.mark.parametrize("path", [7, None, ["schema.json"], {"path": "x"}, True])
def test_a_path_that_is_no_text_is_refused(victim: Victim, path: Any) -> None:
    document = victim.document()
    document["parts"].append({"path": path, "size": 1, "sha256": SHA256, "rows": None})
    victim.plant(document)
    refused(victim, "manifest")


def test_a_part_that_is_listed_twice_is_refused(victim: Victim) -> None:
    for change in ({}, {"sha256": SHA256}, {"size": 5}):
        document = victim.document()
        document["parts"].append(document["parts"][0] | change)
        victim.plant(document)
        refused(victim, "twice")
        document["parts"].pop()
        victim.plant(document)


@pytest.mark.parametrize("size", [-1, 1 << 62, 1 << 63, 1 << 70, 10**400, 1.5, "12", None, True, [1]])
def test_a_size_that_no_file_has_is_refused(victim: Victim, size: Any) -> None:
    document = victim.document()
    document["parts"][0]["size"] = size
    victim.plant(document)
    refused(victim)


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, 7, None, "../" * 21 + "0"])
def test_a_checksum_that_is_none_is_refused(victim: Victim, sha256: Any) -> None:
    document = victim.document()
    document["parts"][0]["sha256"] = sha256
    victim.plant(document)
    refused(victim, "manifest")


def test_a_part_that_is_not_there_is_named(victim: Victim) -> None:
    document = victim.document()
    document["parts"].append({"path": "extra.bin", "size": 1, "sha256": SHA256, "rows": None})
    victim.plant(document)
    refused(victim, r"extra\.bin is missing")


@pytest.mark.parametrize("missing", ["schema.json", "dense.safetensors", "embeddings/item.parquet"])
def test_a_manifest_that_lists_too_little_loads_nothing(victim: Victim, missing: str) -> None:
    """The file lies in the cache from before; it is not listed, so it is not opened."""
    pick_up(victim.store, MODEL, victim.cache)
    document = victim.document()
    document["parts"] = [part for part in document["parts"] if part["path"] != missing]
    old = victim.cache / victim.version
    victim.plant(document)
    old.rename(victim.cache / victim.version)
    with pytest.raises(Corrupt, match=missing.replace(".", r"\.")):
        pick_up(victim.store, MODEL, victim.cache)


@pytest.mark.parametrize(
    "key", ["format_version", "kind", "digest", "parts", "lineage", "schema_fingerprint"]
)
def test_a_field_that_is_missing_or_of_another_type_is_refused(victim: Victim, key: str) -> None:
    whole = victim.document()
    digest = whole["digest"]
    for value in (None, 7, [], {}, [[[]]]):
        victim.plant_bytes(json.dumps(whole | {key: value}).encode(), digest)
        refused(victim, "manifest")
    victim.plant_bytes(json.dumps({k: v for k, v in whole.items() if k != key}).encode(), digest)
    if key != "format_version":  # has a default
        refused(victim, "manifest")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"null", b"[]", b"\xff\xfe{}", b"[" * 100_000, b'{"parts":' * 50_000),
        *(b'{"parts":[' + b"1," * 1000 + b"1]}", b"1e999", b'"' + b"\\u0000" * 1000 + b'"'),
    ],
)
def test_what_is_no_manifest_is_refused(victim: Victim, content: bytes) -> None:
    victim.plant_bytes(content, "0" * 64)
    refused(victim, "manifest")


def test_a_manifest_of_another_version_or_kind_is_refused(victim: Victim) -> None:
    document = victim.document()
    document["lineage"]["ds"] = "2026-11-03"
    victim.plant(document)
    refused(victim, "manifest of version")
    document["lineage"]["ds"] = "2026-11-02"
    document["kind"] = "checkpoint"
    victim.plant(document)
    refused(victim, "expected a model_version")


def test_a_manifest_with_another_schema_than_its_parts_loads_nothing(victim: Victim) -> None:
    victim.plant(victim.document() | {"schema_fingerprint": SHA256})
    for path in (victim.directory / "embeddings").iterdir():  # would be named if it were opened
        path.write_bytes(b"?" * path.stat().st_size)
    victim.seal()
    with pytest.raises(Corrupt, match="another schema"):
        pick_up(victim.store, MODEL, victim.cache)


def test_a_part_may_not_be_reached_through_a_link_in_the_store(victim: Victim, tmp_path: Path) -> None:
    """A link in a local store is no object: a listing does not show it."""
    part = victim.directory / "schema.json"
    part.rename(tmp_path / "elsewhere.json")
    part.symlink_to(tmp_path / "elsewhere.json")
    refused(victim, r"schema\.json is missing")
