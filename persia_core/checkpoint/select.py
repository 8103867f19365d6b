"""Which checkpoint a training run starts from."""

import logging
import re
from dataclasses import dataclass

from persia_core.handoff.layout import MANIFEST, check_ds, checkpoints_root
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, read_pointer
from persia_core.handoff.transfer import read_manifest

logger = logging.getLogger(__name__)

_RUN = re.compile(r"ds=(\d{4}-\d{2}-\d{2})/([^/]+)/" + re.escape(MANIFEST))


@dataclass(frozen=True)
class StoredCheckpoint:
    """A complete checkpoint: `prefix` is its key prefix, ending in a slash."""

    prefix: str
    manifest: Manifest


def latest_checkpoint(store: ObjectStore, model: str, before_ds: str) -> StoredCheckpoint | None:
    """The checkpoint to go on from when `before_ds` is trained; None if there is none.

    It is of the newest partition before `before_ds` that has a complete checkpoint. If several
    runs of that partition are stored, the one that the champion or one of its ancestors came from
    wins, else the newest by name. Raises Corrupt naming a damaged manifest.
    """
    check_ds(before_ds)
    runs = {day: prefixes for day, prefixes in _runs(store, model).items() if day < before_ds}
    if not runs:
        return None
    newest = max(runs)
    prefixes = sorted(runs[newest])
    prefix = prefixes[-1]
    if len(prefixes) > 1:
        line = _checkpoints_of_champion(store, model, newest)
        prefix = next((p for p in reversed(prefixes) if p in line), prefix)
        logger.info("%d runs of %s are stored, going on from %s", len(prefixes), newest, prefix)
    return StoredCheckpoint(prefix, read_manifest(store, prefix, "checkpoint").manifest)


def checkpoint_prefixes(store: ObjectStore, model: str, before_ds: str) -> list[str]:
    """Of all checkpoints before `before_ds` that have a manifest, the newest partition first."""
    runs = _runs(store, model)
    days = sorted((day for day in runs if day < before_ds), reverse=True)
    return [prefix for day in days for prefix in sorted(runs[day], reverse=True)]


def checkpoint_days(store: ObjectStore, model: str) -> set[str]:
    """The partitions that have a complete checkpoint."""
    return set(_runs(store, model))


def _runs(store: ObjectStore, model: str) -> dict[str, list[str]]:
    """Partition -> the prefixes of its complete checkpoints."""
    root = checkpoints_root(model)
    runs: dict[str, list[str]] = {}
    for info in store.list(root):
        if found := _RUN.fullmatch(info.key.removeprefix(root)):
            runs.setdefault(found[1], []).append(info.key.removesuffix(MANIFEST))
    return runs


def _checkpoints_of_champion(store: ObjectStore, model: str, until_ds: str) -> set[str]:
    """Prefixes that the champion and its ancestors were published from, back to `until_ds`."""
    found = read_pointer(store, model, CHAMPION)
    version = found[0].version if found else None
    checkpoints: set[str] = set()
    while version is not None and version[:10] >= until_ds:
        manifest = read_version(store, model, version).manifest
        checkpoints.add(str(manifest.details.get("checkpoint")))
        parent = manifest.lineage.parent
        version = parent if parent is not None and parent[:10] < version[:10] else None
    return checkpoints
