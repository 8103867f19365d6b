"""Rejected rows in the store: parts first, then the manifest, swapped for that of an earlier attempt."""

import logging
from pathlib import Path

from persia_core.errors import Corrupt, StorageConflict
from persia_core.handoff.layout import MANIFEST, rejected_prefix
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import NotFound, ObjectStore, PreconditionFailed, Stored

log = logging.getLogger(__name__)


def publish_rejected(store: ObjectStore, manifest: Manifest, directory: Path) -> None:
    """Store the rejected rows of a partition, whose parts lie in `directory`, in place of earlier ones.

    Without rejected rows nothing is stored, unless there were some before. Raises StorageConflict if
    somebody else stored others at the same time.
    """
    prefix = rejected_prefix(manifest.lineage.dataset, manifest.lineage.ds)
    key = prefix + MANIFEST
    existing = _existing(store, key)
    if existing is None and not manifest.parts:
        return
    if existing is not None and _same(existing, manifest, key):
        return
    for part in manifest.parts:
        store.upload(directory / part.path, prefix + part.path)
    try:
        if existing is None:
            store.put_if_absent(key, manifest.to_bytes())
        else:
            store.put_if_match(key, manifest.to_bytes(), existing.etag)
    except PreconditionFailed as error:
        now = _existing(store, key)
        if now is not None and _same(now, manifest, key):
            return
        raise StorageConflict(
            f"{store.uri(key)} was changed by somebody else meanwhile",
            "see who else hashes this partition, then run again",
        ) from error
    log.info("rejected rows are in %s", store.uri(prefix))


def _existing(store: ObjectStore, key: str) -> Stored | None:
    try:
        return store.get(key)
    except NotFound:
        return None


def _same(existing: Stored, manifest: Manifest, key: str) -> bool:
    try:
        return Manifest.from_bytes(existing.data, key).digest == manifest.digest
    except Corrupt:
        return False
