"""Which cut a run goes on from: the newest whole one of its own; all others are named, and gone."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from persia_core.checkpoint.cuts import RunIdentity, cut_directory, cuts_of, newest_whole_cut, prune_cuts

IDENTITY = RunIdentity("run", "2026-01-02", "checkpoints/m/ds=2026-01-01/run/", "a" * 64, "b" * 64)
PARTS = ("dense.safetensors", "optimizer.safetensors", "state.json", "embedding-0.safetensors")


def write_cut(run_dir: Path, step: int, **changes: Any) -> Path:
    """A cut as docs/formats says, made by hand; `changes` are of the manifest's lineage and details."""
    directory = cut_directory(run_dir, step)
    directory.mkdir(parents=True)
    parts = []
    for name in PARTS:
        data = f"{name} at {step}".encode()
        (directory / name).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        parts.append({"path": name, "size": len(data), "sha256": sha256, "rows": None})
    lines = "".join(
        f"{p['path']}\t{p['size']}\t{p['sha256']}\n" for p in sorted(parts, key=lambda p: p["path"])
    )
    manifest = {
        "format_version": 1,
        "kind": changes.pop("kind", "cut"),
        "digest": hashlib.sha256(lines.encode()).hexdigest(),
        "parts": parts,
        "schema_fingerprint": "c" * 64,
        "lineage": {
            "dataset": "clicks",
            "ds": changes.pop("ds", IDENTITY.ds),
            "parent": changes.pop("parent", IDENTITY.parent),
            "hashed_digest": changes.pop("hashed_digest", IDENTITY.hashed_digest),
            "config_digest": "d" * 64,
            "code_version": "1",
        },
        "details": {"run": "run", "servers": 1, "training_digest": IDENTITY.training_digest} | changes,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def test_the_newest_is_taken_and_older_ones_stay(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        write_cut(tmp_path, step)
    found = newest_whole_cut(tmp_path, IDENTITY)
    assert found is not None and found.step == 100
    assert [cut.step for cut in cuts_of(tmp_path)] == [100, 10, 9]
    prune_cuts(tmp_path, 2)
    assert [cut.step for cut in cuts_of(tmp_path)] == [100, 10]


def truncate(directory: Path) -> None:
    path = directory / "embedding-0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip(directory: Path) -> None:
    path = directory / "embedding-0.safetensors"
    path.write_bytes(path.read_bytes().replace(b"at", b"bt"))


def remove(directory: Path) -> None:
    (directory / "embedding-0.safetensors").unlink()


def swap(directory: Path) -> None:
    other = directory.parent / "9" / "embedding-0.safetensors"
    (directory / "embedding-0.safetensors").write_bytes(other.read_bytes())


def unlist(directory: Path) -> None:
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    document["details"]["servers"] = 2
    path.write_text(json.dumps(document))


def garble(directory: Path) -> None:
    (directory / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (truncate, "embedding-0.safetensors has 29 bytes, its manifest says 30"),
        (flip, "embedding-0.safetensors has another SHA-256"),
        (remove, "embedding-0.safetensors is missing"),
        (swap, "embedding-0.safetensors has 28 bytes"),
        (unlist, "does not list embedding-1.safetensors"),
        (garble, "manifest.json"),
    ],
)
def test_a_damaged_one_is_named_and_the_next_older_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any, what: str
) -> None:
    write_cut(tmp_path, 9)
    damage(write_cut(tmp_path, 100))
    with caplog.at_level(logging.WARNING):
        found = newest_whole_cut(tmp_path, IDENTITY)
    assert found is not None and found.step == 9
    assert "cut at step 100 is damaged" in caplog.text and what in caplog.text
    assert not cut_directory(tmp_path, 100).exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ds": "2026-01-03"}, "another partition: 2026-01-03"),
        ({"parent": None}, "another parent checkpoint"),
        ({"hashed_digest": "e" * 64}, "another hashed partition"),
        ({"training_digest": "e" * 64}, "another configuration"),
        ({"run": "other"}, "another run"),
        ({"kind": "checkpoint"}, "expected a cut"),
    ],
)
def test_a_foreign_one_is_named_and_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], what: str
) -> None:
    write_cut(tmp_path, 100, **change)
    with caplog.at_level(logging.WARNING):
        assert newest_whole_cut(tmp_path, IDENTITY) is None
    assert what in caplog.text
    assert cuts_of(tmp_path) == []


def test_what_was_not_completed_is_no_cut_and_is_removed(tmp_path: Path) -> None:
    write_cut(tmp_path, 9)
    (write_cut(tmp_path, 100) / "manifest.json").unlink()
    found = newest_whole_cut(tmp_path, IDENTITY)
    assert found is not None and found.step == 9
    assert [path.name for path in (tmp_path / "cuts").iterdir()] == ["9"]
