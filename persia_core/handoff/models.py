"""The model versions of a model: which there are, and what is known of one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST, verdict_key, version_name, version_prefix, versions_root
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.pointer import CANDIDATE, CHAMPION, Move, read_pointer
from persia_core.handoff.transfer import StoredManifest, read_manifest


@dataclass(frozen=True)
class VersionInfo:
    """One line of `persia models list`; `passed` is None while the version was not validated.

    `auc` and `log_loss` are of the partition before training on it, None on a cold start.
    """

    version: str
    ds: str
    parent: str | None
    rows_trained: int | None
    auc: float | None
    log_loss: float | None
    passed: bool | None
    aliases: list[str]


def version_names(store: ObjectStore, model: str) -> Iterator[str]:
    """Names of the complete versions (those with a manifest), oldest partition first."""
    root = versions_root(model)
    for info in store.list(root):
        name, _, rest = info.key.removeprefix(root).partition("/")
        if rest == MANIFEST:
            yield name


def read_version(store: ObjectStore, model: str, version: str) -> StoredManifest:
    """The manifest of a version. Raises Corrupt if there is none, or it is not of that version."""
    try:
        prefix = version_prefix(model, version)
        found = read_manifest(store, prefix, "model_version")
    except (NotFound, ValueError):
        raise Corrupt(
            f"model {model} has no complete version {version!r} at {store.url}",
            "`persia models list` shows the versions that exist",
        ) from None
    expected = version_name(found.manifest.lineage.ds, found.manifest.digest)
    if expected != version:
        raise Corrupt(
            f"{store.uri(prefix + MANIFEST)} is the manifest of version {expected}, not of {version}",
            "the object was moved or replaced; publish the version again",
        )
    return found


def version_exists(store: ObjectStore, model: str, version: str) -> bool:
    """Whether that version is complete: its manifest is there, whatever it holds."""
    try:
        store.get(version_prefix(model, version) + MANIFEST)
    except (NotFound, ValueError):
        return False
    return True


def list_versions(store: ObjectStore, model: str) -> list[VersionInfo]:
    """All complete versions, newest partition first. Raises Corrupt naming a damaged object."""
    aliases: dict[str, list[str]] = {}
    for alias in (CANDIDATE, CHAMPION):
        if found := read_pointer(store, model, alias):
            aliases.setdefault(found[0].version, []).append(alias)
    names = sorted(version_names(store, model), reverse=True)
    return [_info(store, model, name, aliases.get(name, [])) for name in names]


def champion_history(store: ObjectStore, model: str) -> list[Move]:
    """What the champion pointer named, newest first, with reasons; empty if there was no champion yet."""
    found = read_pointer(store, model, CHAMPION)
    return found[0].moves if found else []


def show_version(store: ObjectStore, model: str, version: str) -> dict[str, Any]:
    """Manifest and verdict of a version, for people. Raises Corrupt if there is no such version."""
    found = read_version(store, model, version)
    document = found.manifest.model_dump(mode="json")
    document["metrics"].pop("loss", None)
    aliases = [
        a for a in (CANDIDATE, CHAMPION) if (p := read_pointer(store, model, a)) and p[0].version == version
    ]
    return {
        "version": version,
        "uri": store.uri(version_prefix(model, version)),
        "manifest_sha256": found.sha256,
        "aliases": aliases,
        "bytes": sum(part.size for part in found.manifest.parts),
        **document,
        "verdict": _verdict(store, model, version),
    }


def version_of_checkpoint(store: ObjectStore, model: str, checkpoint: str) -> str | None:
    """The version that was published from the checkpoint under that prefix, if any."""
    for name in version_names(store, model):
        if f"/ds={name[:10]}/" not in checkpoint:
            continue
        if read_version(store, model, name).manifest.details.get("checkpoint") == checkpoint:
            return name
    return None


def _info(store: ObjectStore, model: str, version: str, aliases: list[str]) -> VersionInfo:
    manifest = read_version(store, model, version).manifest
    before = manifest.metrics.get("before") or {}
    verdict = _verdict(store, model, version)
    return VersionInfo(
        version=version,
        ds=manifest.lineage.ds,
        parent=manifest.lineage.parent,
        rows_trained=manifest.metrics.get("rows_trained"),
        auc=before.get("auc"),
        log_loss=before.get("log_loss"),
        passed=None if verdict is None else bool(verdict["passed"]),
        aliases=aliases,
    )


def _verdict(store: ObjectStore, model: str, version: str) -> dict[str, Any] | None:
    from persia_core.validation.verdict import read_model_verdict

    verdict = read_model_verdict(store, verdict_key(model, version))
    return None if verdict is None else verdict.model_dump(mode="json")
