"""Rejected rows in the store: parts first, then the manifest, swapped for that of an earlier attempt."""

import logging
from pathlib import Path

from persia_core.data.replace import existing_manifest, replace_manifest
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST, rejected_prefix
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import ObjectStore, Stored

log = logging.getLogger(__name__)


def publish_rejected(store: ObjectStore, manifest: Manifest, directory: Path) -> None:
    """Store the rejected rows of a partition, whose parts lie in `directory`, in place of earlier ones.

    Without rejected rows nothing is stored, unless there were some before. Raises StorageConflict if
    somebody else stored others at the same time.
    """
    prefix = rejected_prefix(manifest.lineage.dataset, manifest.lineage.ds)
    key = prefix + MANIFEST
    existing = existing_manifest(store, key)
    if existing is None and not manifest.parts:
        return
    if existing is not None and _same(existing, manifest, key):
        return
    for part in manifest.parts:
        store.upload(directory / part.path, prefix + part.path)
    if replace_manifest(store, key, manifest, existing, lambda now: _same(now, manifest, key)):
        log.info("rejected rows are in %s", store.uri(prefix))


def _same(existing: Stored, manifest: Manifest, key: str) -> bool:
    try:
        return Manifest.from_bytes(existing.data, key).digest == manifest.digest
    except Corrupt:
        return False
