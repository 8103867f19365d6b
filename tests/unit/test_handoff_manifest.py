"""Manifests: what is accepted, and what hostile or damaged ones lead to."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core.errors import Corrupt
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import MAX_MANIFEST_BYTES, Lineage, Manifest, Part, digest_of, part_of
from persia_core.handoff.transfer import download_and_verify, upload_parts

LINEAGE = Lineage(dataset="d", ds="2026-11-01", config_digest="c", code_version="t")
PREFIX = "models/m/versions/v/"


def manifest_of(parts: list[Part], **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "kind": "hashed",
        "digest": digest_of(parts),
        "parts": parts,
        "schema_fingerprint": "s",
        "lineage": LINEAGE,
    }
    return Manifest.model_validate(values | changes)


def folder(root: Path, files: dict[str, bytes]) -> Manifest:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return manifest_of([part_of(root, root / name) for name in files])


def test_a_directory_goes_up_and_comes_down(tmp_path: Path) -> None:
    files = {"a": b"1" * 5000, "b/c": b"", "b/d": b"22"}
    store = LocalStore(tmp_path / "store")
    manifest = folder(tmp_path / "in", files)
    stored = upload_parts(store, PREFIX, tmp_path / "in", manifest)
    assert stored.manifest == manifest
    assert download_and_verify(store, PREFIX, tmp_path / "out", "hashed") == manifest
    found = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert found == files
    with pytest.raises(Corrupt, match="expected a checkpoint"):
        download_and_verify(store, PREFIX, tmp_path / "out", "checkpoint")


def test_a_manifest_comes_back_from_its_bytes() -> None:
    parts = [Part(path="x/y", size=3, sha256="0" * 64, rows=2)]
    manifest = manifest_of(parts, metrics={"auc": 0.5}, details={"n": None})
    assert Manifest.from_bytes(manifest.to_bytes(), "k") == manifest
    assert Manifest.from_bytes(manifest.to_bytes(), "k").to_bytes() == manifest.to_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        ".",
        "a\t1\nb",
        "a\x1fb",
    ],
)
def test_a_path_that_could_leave_the_directory_is_corrupt(tmp_path: Path, path: str) -> None:
    document = json.loads(manifest_of([]).to_bytes())
    part = {"path": path, "size": 1, "sha256": "0" * 64, "rows": None}
    line = f"{path}\t1\t{'0' * 64}\n"
    document |= {"parts": [part], "digest": hashlib.sha256(line.encode()).hexdigest()}
    store = LocalStore(tmp_path / "store")
    store.put(PREFIX + "manifest.json", json.dumps(document).encode())
    with pytest.raises(Corrupt, match=r"manifest .*manifest\.json"):
        download_and_verify(store, PREFIX, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "paths", [["a", "a"], ["a", "a/b"], ["a/b/c", "a/b"], ["manifest.json"], ["b", "manifest.json"]]
)
def test_paths_that_clash_are_corrupt(tmp_path: Path, paths: list[str]) -> None:
    parts = [Part(path=path, size=0, sha256="0" * 64) for path in paths]
    document = {
        "format_version": 1,
        "kind": "hashed",
        "digest": digest_of(parts),
        "parts": [part.model_dump() for part in parts],
        "schema_fingerprint": "s",
        "lineage": LINEAGE.model_dump(),
    }
    store = LocalStore(tmp_path / "store")
    store.put(PREFIX + "manifest.json", json.dumps(document).encode())
    with pytest.raises(Corrupt):
        download_and_verify(store, PREFIX, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "0" * 64},
        {"format_version": 2},
        {"kind": "other"},
        {"surprise": 1},
        {"parts": [{"path": "a", "size": -1, "sha256": "0" * 64}]},
        {"parts": [{"path": "a", "size": 1, "sha256": "XYZ"}]},
        {"parts": None},
        {"lineage": {}},
    ],
)
def test_a_manifest_with_a_wrong_field_is_corrupt(change: dict[str, Any]) -> None:
    document = json.loads(manifest_of([]).to_bytes())
    with pytest.raises(Corrupt, match="manifest k"):
        Manifest.from_bytes(json.dumps(document | change).encode(), "k")


def test_a_huge_manifest_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="bytes"):
        Manifest.from_bytes(b" " * (MAX_MANIFEST_BYTES + 1), "k")


@given(st.binary(max_size=300))
def test_bytes_that_are_no_manifest_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        Manifest.from_bytes(data, "k")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_a_number_is_written_as_missing(value: float) -> None:
    data = manifest_of([], metrics={"auc": value, "rows": [value]}).to_bytes()
    assert Manifest.from_bytes(data, "k").metrics == {"auc": None, "rows": [None]}


def test_the_digest_is_of_the_parts_whatever_their_order(tmp_path: Path) -> None:
    parts = [Part(path=name, size=1, sha256=name * 64) for name in "abc"]
    assert digest_of(parts) == digest_of(parts[::-1])
    for other in (parts[:2], [parts[0].model_copy(update={"size": 2}), *parts[1:]]):
        assert digest_of(other) != digest_of(parts)


def test_a_larger_object_than_listed_is_not_downloaded(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    upload_parts(store, PREFIX, tmp_path / "in", folder(tmp_path / "in", {"a": b"1", "b": b"2"}))
    store.put(PREFIX + "b", b"2" * 1_000_000)
    with pytest.raises(Corrupt, match="1000000 bytes"):
        download_and_verify(store, PREFIX, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_local_file_that_is_not_as_listed_is_not_uploaded(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    manifest = folder(tmp_path / "in", {"a": b"11", "b": b"22"})
    for content in (b"2", b"23"):
        (tmp_path / "in" / "b").write_bytes(content)
        with pytest.raises(Corrupt, match="in/b"):
            upload_parts(store, PREFIX, tmp_path / "in", manifest)
    assert list(store.list("")) == []


def test_storage_that_changes_bytes_gets_no_manifest(tmp_path: Path) -> None:
    class Rotten(LocalStore):
        def upload(self, path: Path, key: str) -> None:
            data = bytearray(path.read_bytes())
            data[0] ^= 1
            self.put(key, bytes(data))

    store = Rotten(tmp_path / "store")
    manifest = folder(tmp_path / "in", {"a": b"11"})
    with pytest.raises(Corrupt, match="reads back"):
        upload_parts(store, PREFIX, tmp_path / "in", manifest)
    assert [info.key for info in store.list("")] == [PREFIX + "a"]


def test_the_example_of_the_documentation_is_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "manifest.md").read_text()
    lines = [line.strip() + "\n" for line in page.splitlines() if "\t" in line]
    assert len(lines) == 2
    fields = [line.strip().split("\t") for line in lines]
    parts = [Part(path=path, size=int(size), sha256=sha256) for path, size, sha256 in fields]
    assert parts[0].sha256 == hashlib.sha256(b"1").hexdigest()
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == digest_of(parts)
    assert digest_of(parts) in page
