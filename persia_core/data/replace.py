"""A manifest of a directory that may be replaced: the last thing that is stored, by compare-and-swap."""

from collections.abc import Callable

from persia_core.errors import StorageConflict
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import NotFound, ObjectStore, PreconditionFailed, Stored


def existing_manifest(store: ObjectStore, key: str) -> Stored | None:
    """The manifest under `key`, or None."""
    try:
        return store.get(key)
    except NotFound:
        return None


def replace_manifest(
    store: ObjectStore,
    key: str,
    manifest: Manifest,
    existing: Stored | None,
    is_same: Callable[[Stored], bool],
) -> bool:
    """Store `manifest` in place of `existing`, its parts being there. False if another did that first.

    Raises StorageConflict if somebody stored something else meanwhile.
    """
    try:
        if existing is None:
            store.put_if_absent(key, manifest.to_bytes())
        else:
            store.put_if_match(key, manifest.to_bytes(), existing.etag)
    except PreconditionFailed as error:
        now = existing_manifest(store, key)
        if now is not None and is_same(now):
            return False
        raise StorageConflict(
            f"{store.uri(key)} was changed by somebody else meanwhile",
            "see who else hashes this partition, then run again",
        ) from error
    return True
