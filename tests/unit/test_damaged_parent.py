"""A parent checkpoint that is not whole is found before a job starts, and the last good one is offered."""

import hashlib
import json
from pathlib import Path

import pytest

from persia_core.errors import Corrupt
from persia_core.handoff.local_store import LocalStore
from persia_core.launch.train import train_partition
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_config, small_rows

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
NAMES = ("dense.safetensors", "optimizer.safetensors", "state.json", "embedding-0.safetensors")


def put_checkpoint(store: LocalStore, ds: str, servers: int = 1) -> str:
    """A checkpoint as docs/formats says, of parts that nobody could load; returns its prefix."""
    prefix = f"checkpoints/small/ds={ds}/run/"
    parts = []
    for name in sorted(NAMES):
        data = f"{name} of {ds}".encode()
        store.put(prefix + name, data)
        parts.append(
            {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": None}
        )
    lines = "".join(f"{p['path']}\t{p['size']}\t{p['sha256']}\n" for p in parts)
    manifest = {
        "kind": "checkpoint",
        "digest": hashlib.sha256(lines.encode()).hexdigest(),
        "parts": parts,
        "schema_fingerprint": "c" * 64,
        "lineage": {"dataset": "clicks", "ds": ds, "config_digest": "d" * 64, "code_version": "1"},
        "details": {"servers": servers},
    }
    store.put(prefix + "manifest.json", json.dumps(manifest).encode())
    return prefix


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("missing", "embedding-0.safetensors is missing"),
        ("truncated", "embedding-0.safetensors has 36 bytes, its manifest says 37"),
        ("flipped", "embedding-0.safetensors has another SHA-256"),
        ("foreign", "embedding-0.safetensors has another SHA-256"),
        ("not listed", "does not list embedding-1.safetensors"),
        ("manifest", "manifest.json"),
    ],
)
def test_the_part_is_named_and_the_last_good_checkpoint_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, what: str
) -> None:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    config, store = small_config(), LocalStore(tmp_path / "store")
    write_hashed_partition(config, store, DAYS[2], small_rows(10))
    good = put_checkpoint(store, DAYS[0])
    bad = put_checkpoint(store, DAYS[1], servers=2 if damage == "not listed" else 1)
    part = store.get(bad + NAMES[3]).data
    if damage == "missing":
        store.delete(bad + NAMES[3])
    elif damage == "manifest":
        store.put(bad + "manifest.json", b"{")
    elif damage != "not listed":
        other = store.get(good + NAMES[3]).data
        store.put(
            bad + NAMES[3], {"truncated": part[:-1], "flipped": b"E" + part[1:], "foreign": other}[damage]
        )
    with pytest.raises(Corrupt, match=what) as caught:
        train_partition(config, store, DAYS[2], "run")
    assert f"ds={DAYS[1]}" in caught.value.what
    assert f"last good checkpoint is {store.uri(good)}" in caught.value.remedy
    assert f"delete {store.uri(bad)}manifest.json" in caught.value.remedy
    assert not list((tmp_path / "home").rglob("job.json")), "no job was started"
    assert not list((tmp_path / "home").rglob(".verify-*"))

    store.delete(good + NAMES[0])
    with pytest.raises(Corrupt, match="No earlier checkpoint of small is whole"):
        train_partition(config, store, DAYS[2], "run")
