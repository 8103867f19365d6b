"""Publishing a training run: its checkpoint, its serving export, then the alias `candidate`."""

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from persia_core.checkpoint.layout import CHECKPOINT
from persia_core.checkpoint.stored_cuts import StoredCuts
from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, DataInvalid, StorageConflict
from persia_core.handoff.export import Parent, can_be_parent, export_version
from persia_core.handoff.layout import MANIFEST, checkpoint_prefix, version_name, version_prefix
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.marks import publishing
from persia_core.handoff.models import read_version, version_of_checkpoint
from persia_core.handoff.object_store import ObjectStore, PreconditionFailed
from persia_core.handoff.pointer import CANDIDATE, Pointer, read_pointer, swap_pointer
from persia_core.handoff.serving_schema import embedding_file
from persia_core.handoff.transfer import StoredManifest, download_parts, upload_parts
from persia_core.handoff.version_details import data_quality

logger = logging.getLogger(__name__)

_ALIAS_ATTEMPTS = 10


@dataclass(frozen=True)
class PublishResult:
    """What was stored. `digest` and `manifest_sha256` (hex) are of the version's parts and manifest.

    `candidate` is what the alias names now: another version if that is of a newer partition. `bytes`
    are those of the version's parts.
    """

    version: str
    checkpoint: str
    digest: str
    manifest_sha256: str
    parent: str | None
    candidate: str
    bytes: int


def publish(config: ModelConfig, store: ObjectStore, ds: str, run_dir: Path) -> PublishResult:
    """Store checkpoint and serving export of a run, parts first, manifests last, and name it candidate.

    May be repeated after a failure at any point: the same run gives the same version, and what is
    stored already is kept. Raises Corrupt if the run is incomplete or damaged, StorageConflict if
    another run is stored under the same name, StorageUnavailable while an earlier publication of this run
    is being retired.
    """
    if (again := _published(config, store, ds, run_dir)) is not None:
        return again
    checkpoint = _read_checkpoint(run_dir / CHECKPOINT)
    if checkpoint.lineage.ds != ds:
        raise DataInvalid(
            f"{run_dir} was trained on partition {checkpoint.lineage.ds}, not on {ds}",
            "publish it under its own partition",
        )
    if checkpoint.schema_fingerprint != config.schema_fingerprint():
        raise DataInvalid(
            f"{run_dir} was trained with other features than the configuration names now",
            "publish with the configuration of the run, or train again",
        )
    prefix = checkpoint_prefix(config.name, ds, run_dir.name)
    with publishing(store, prefix):
        result = _publish(config, store, run_dir, checkpoint, prefix)
    StoredCuts(store, config.name, ds, run_dir.name).remove_all()  # nothing will go on from them any more
    logger.info("published %s", store.uri(version_prefix(config.name, result.version)))
    return result


def _publish(
    config: ModelConfig, store: ObjectStore, run_dir: Path, checkpoint: Manifest, prefix: str
) -> PublishResult:
    upload_parts(store, prefix, run_dir / CHECKPOINT, checkpoint)
    data = data_quality(store, checkpoint.lineage)
    scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=run_dir))
    try:
        parent = _fetch_parent(config, store, checkpoint.lineage.parent, scratch / "parent")
        export = scratch / "version"
        export.mkdir()
        manifest = export_version(
            config, run_dir, checkpoint, export, prefix=prefix, parent=parent, data=data
        )
        version = version_name(checkpoint.lineage.ds, manifest.digest)
        target = version_prefix(config.name, version)
        with publishing(store, target):
            stored = upload_parts(store, target, export, manifest)
            return _named(store, config.name, version, prefix, run_dir.name, stored)
    finally:
        shutil.rmtree(scratch)


def _named(
    store: ObjectStore, model: str, version: str, checkpoint: str, run: str, stored: StoredManifest
) -> PublishResult:
    """Name a stored version candidate; nobody retires it meanwhile."""
    lineage = stored.manifest.lineage
    pointer = Pointer(
        version=version,
        ds=lineage.ds,
        manifest_sha256=stored.sha256,
        reason=f"published by {run}",
        action="published",
    )
    candidate = _name_candidate(store, model, pointer)
    return PublishResult(
        version=version,
        checkpoint=checkpoint,
        digest=stored.manifest.digest,
        manifest_sha256=stored.sha256,
        parent=lineage.parent,
        candidate=candidate,
        bytes=sum(part.size for part in stored.manifest.parts),
    )


def _fetch_parent(
    config: ModelConfig, store: ObjectStore, checkpoint: str | None, directory: Path
) -> Parent | None:
    """The version that was published from that checkpoint; with its tables where a delta is to be made."""
    name = version_of_checkpoint(store, config.name, checkpoint) if checkpoint else None
    if name is None:
        return None
    manifest = read_version(store, config.name, name).manifest
    if not config.export.delta:
        return Parent(name, manifest)
    if not can_be_parent(config, manifest):
        logger.warning("no delta: %s has other tables, or stores them in another way", name)
        return Parent(name, manifest)
    tables = {embedding_file(table.name) for table in config.tables}
    download_parts(store, version_prefix(config.name, name), manifest, directory, only=tables)
    return Parent(name, manifest, directory)


def _published(config: ModelConfig, store: ObjectStore, ds: str, run_dir: Path) -> PublishResult | None:
    """What an earlier call stored of a run whose files are gone since; else None.

    Its directory may be there again: whoever asks to train the run once more takes the lock in it.
    """
    if (run_dir / CHECKPOINT).exists():
        return None
    prefix = checkpoint_prefix(config.name, ds, run_dir.name)
    version = version_of_checkpoint(store, config.name, prefix)
    if version is None:
        return None
    with publishing(store, version_prefix(config.name, version)):
        stored = read_version(store, config.name, version)
        logger.info("%s was published already as %s", run_dir.name, version)
        return _named(store, config.name, version, prefix, run_dir.name, stored)


def _read_checkpoint(directory: Path) -> Manifest:
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Corrupt(
            f"{directory} has no {MANIFEST}: training did not finish there", "run `persia train` again"
        ) from None
    manifest = Manifest.from_bytes(data, str(path))
    if manifest.kind != "checkpoint":
        raise Corrupt(f"{path} is of a {manifest.kind}, expected a checkpoint", "name a run directory")
    return manifest


def _name_candidate(store: ObjectStore, model: str, pointer: Pointer) -> str:
    """Move the alias unless it is of a newer partition; returns the version it names in the end."""
    for _ in range(_ALIAS_ATTEMPTS):
        found = read_pointer(store, model, CANDIDATE)
        current, etag = found if found else (None, None)
        if current is not None and (current.version == pointer.version or current.ds > pointer.ds):
            return current.version
        previous = current.version if current else None
        try:
            swap_pointer(store, model, CANDIDATE, pointer.model_copy(update={"previous": previous}), etag)
        except PreconditionFailed:
            continue
        return pointer.version
    raise StorageConflict(
        f"the alias {CANDIDATE} of {model} kept moving while {pointer.version} was published",
        "find out who else publishes this model, then run again: what is stored is kept",
    )
