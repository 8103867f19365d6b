"""Model versions that hold no model: enough for pointers, retention and sweeping."""

import hashlib
from typing import Any

from persia_core.handoff.layout import (
    MANIFEST,
    checkpoint_prefix,
    data_docs_prefix,
    hashed_prefix,
    rejected_prefix,
    verdict_key,
    version_name,
    version_prefix,
)
from persia_core.handoff.manifest import Lineage, Manifest, Part, digest_of
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, read_pointer
from persia_core.handoff.report import REPORT
from persia_core.validation.verdict import ModelCheck, ModelVerdict

MODEL = "small"


def part_of_bytes(path: str, content: bytes) -> Part:
    return Part(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def manifest_of(
    kind: Any, ds: str, content: dict[str, bytes], details: dict[str, Any], parent: str | None = None
) -> Manifest:
    """A manifest of parts with these contents."""
    parts = [part_of_bytes(path, data) for path, data in content.items()]
    return Manifest(
        kind=kind,
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint="s",
        lineage=Lineage(dataset="clicks", ds=ds, parent=parent, config_digest="c", code_version="test"),
        details=details,
    )


def store_version(
    store: ObjectStore,
    ds: str,
    content: str = "",
    *,
    verdict: bool | None = True,
    details: dict[str, Any] | None = None,
    report: bytes | None = None,
) -> str:
    """Store a version of `ds` with two parts, and a verdict on it (None: none); returns its name."""
    parts = {"schema.json": b"{}", "embeddings/user.parquet": f"{ds} {content}".encode()}
    if report is not None:
        parts[REPORT] = report
    manifest = manifest_of("model_version", ds, parts, details or {})
    version = version_name(ds, manifest.digest)
    for path, data in parts.items():
        store.put(version_prefix(MODEL, version) + path, data)
    data = manifest.to_bytes()
    store.put_if_absent(version_prefix(MODEL, version) + MANIFEST, data)
    if verdict is not None:
        sha256 = hashlib.sha256(data).hexdigest()
        store.put(verdict_key(MODEL, version), verdict_on(version, sha256, passed=verdict).to_bytes())
    return version


def verdict_on(version: str, manifest_sha256: str, *, passed: bool) -> ModelVerdict:
    return ModelVerdict(
        version=version,
        ds=version[:10],
        manifest_sha256=manifest_sha256,
        champion=None,
        passed=passed,
        checks=[ModelCheck(name="min_auc", passed=passed, reason="AUC 0.4 is below 0.5")],
        summary="s",
        metrics={},
    )


def store_prefix(store: ObjectStore, prefix: str, kind: str, ds: str, *, complete: bool = True) -> None:
    parts = {"part-0.parquet": b"0" * 10, "part-1.parquet": b"1" * 20}
    for path, data in parts.items():
        store.put(prefix + path, data)
    if complete:
        store.put(prefix + MANIFEST, manifest_of(kind, ds, parts, {}).to_bytes())


def fill(store: ObjectStore, days: list[str]) -> list[str]:
    """For each day a hashed and rejected partition, data docs, a checkpoint, and a version with a verdict."""
    versions = []
    for ds in days:
        store_prefix(store, hashed_prefix("clicks", ds), "hashed", ds)
        store_prefix(store, rejected_prefix("clicks", ds), "rejected", ds)
        store.put(data_docs_prefix("clicks", ds) + "index.html", b"<p>")
        store.put(data_docs_prefix("clicks", ds) + "verdict.json", b"{}")
        checkpoint = checkpoint_prefix(MODEL, ds, "run")
        store_prefix(store, checkpoint, "checkpoint", ds)
        versions.append(store_version(store, ds, details={"checkpoint": checkpoint, "run": "run"}))
    return versions


def everything(store: ObjectStore) -> dict[str, bytes]:
    return {info.key: store.get(info.key).data for info in store.list("")}


def champion_of(store: ObjectStore) -> str | None:
    found = read_pointer(store, MODEL, CHAMPION)
    return found[0].version if found else None
