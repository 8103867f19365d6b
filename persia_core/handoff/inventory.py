"""What a model has in the object store, as far as retention asks: complete prefixes and what they need."""

import re
from collections.abc import Iterator

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt
from persia_core.handoff.layout import (
    MANIFEST,
    checkpoints_root,
    hashed_root,
    version_ds,
    version_prefix,
)
from persia_core.handoff.models import version_names
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.retention import Stored
from persia_core.handoff.transfer import read_manifest

_CHECKPOINT = re.compile(r"ds=(\d{4}-\d{2}-\d{2})/[^/]+/")
_PARTITION = re.compile(r"ds=(\d{4}-\d{2}-\d{2})/")


def inventory(config: ModelConfig, store: ObjectStore) -> list[Stored]:
    """Versions and checkpoints of the model and hashed partitions of its dataset that have a manifest."""
    found = []
    for name in version_names(store, config.name):
        needs, readable = _needs(store, version_prefix(config.name, name))
        found.append(Stored("version", name, version_ds(name), needs, readable))
    for prefix, ds in _complete(store, checkpoints_root(config.name), _CHECKPOINT):
        needs, readable = _needs(store, prefix)
        found.append(Stored("checkpoint", prefix, ds, needs, readable))
    for prefix, ds in _complete(store, hashed_root(config.dataset.name), _PARTITION):
        found.append(Stored("partition", prefix, ds))
    return found


def _complete(store: ObjectStore, root: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Prefixes under `root` that have a manifest, and their partitions."""
    for info in store.list(root):
        relative = info.key.removeprefix(root)
        if relative.endswith(MANIFEST) and (match := pattern.fullmatch(relative.removesuffix(MANIFEST))):
            yield info.key.removesuffix(MANIFEST), match[1]


def _needs(store: ObjectStore, prefix: str) -> tuple[frozenset[str], bool]:
    """What has to stay as long as this prefix does, and whether its manifest could be read.

    A version came from a checkpoint, and a delta is applied to the version that it names as its parent.
    """
    try:
        details = read_manifest(store, prefix).manifest.details
    except NotFound:  # retired since it was listed
        return frozenset(), True
    except Corrupt:
        return frozenset(), False
    delta = details.get("delta")
    named = (details.get("checkpoint"), delta.get("parent") if isinstance(delta, dict) else None)
    return frozenset(name for name in named if isinstance(name, str)), True
