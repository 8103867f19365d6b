"""Retiring what nothing needs any more: manifest first, so that no reader sees part of a version."""

import logging
from dataclasses import dataclass, replace

from persia_core.config import ModelConfig
from persia_core.handoff.inventory import inventory
from persia_core.handoff.layout import (
    MANIFEST,
    data_docs_prefix,
    data_verdict,
    rejected_prefix,
    version_prefix,
)
from persia_core.handoff.marks import retiring
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import NotFound, ObjectInfo, ObjectStore, PreconditionFailed
from persia_core.handoff.pointer import CANDIDATE, CHAMPION, Pointer, read_pointer
from persia_core.handoff.retention import Decision, plan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retirement:
    """What was decided, and what that freed. Nothing was deleted unless `applied`."""

    applied: bool
    kept: list[Decision]
    retired: list[Decision]
    objects: int
    bytes: int


def retire(config: ModelConfig, store: ObjectStore, *, apply: bool = False) -> Retirement:
    """Delete versions, checkpoints and partitions that `config.retention` does not keep.

    Without `apply` nothing is deleted. May be repeated after a failure at any point: what has lost its
    manifest is no version any more, and `persia sweep` removes the parts that are left of it. Raises
    Corrupt if an alias cannot be read: then nobody knows what is needed, and nothing is deleted.
    """
    champion, candidate = _pointers(store, config.name)
    stored = inventory(config, store)
    needs = {each.name: each.needs for each in stored}
    needed: set[str] = set()  # by versions that turn out to be in use while this runs
    decisions = plan(stored, config.retention, champion, candidate)
    kept = [each for each in decisions if each.keep]
    retired: list[Decision] = []
    objects, freed = 0, 0
    for each in decisions:
        if each.keep:
            continue
        found = _objects(config, store, each)
        if apply and (each.name in needed or not _delete(config, store, each, found)):
            needed |= needs[each.name]
            kept.append(replace(each, keep=True, why="is needed again since a moment ago"))
            continue
        retired.append(each)
        objects, freed = objects + len(found), freed + sum(info.size for info in found)
        logger.info("%s %s %s", "retired" if apply else "would retire", each.kind, each.name)
    return Retirement(apply, kept, retired, objects, freed)


def _pointers(store: ObjectStore, model: str) -> tuple[Pointer | None, Pointer | None]:
    found = [read_pointer(store, model, alias) for alias in (CHAMPION, CANDIDATE)]
    champion, candidate = (each[0] if each else None for each in found)
    return champion, candidate


def _delete(config: ModelConfig, store: ObjectStore, decision: Decision, found: list[ObjectInfo]) -> bool:
    """Delete what a decision says; False, and nothing is deleted, if it is published or needed by now."""
    if decision.kind == "partition":
        for info in found:
            store.delete(info.key)
        return True
    is_version = decision.kind == "version"
    prefix = version_prefix(config.name, decision.name) if is_version else decision.name
    with retiring(store, prefix) as alone:
        if not alone:
            logger.warning("%s is being published: it stays", prefix)
            return False
        if is_version and not _unlist_version(config, store, decision.name):
            return False
        if not is_version and _feeds_an_alias(config, store, prefix):
            logger.warning("a version of %s was given an alias: it stays", prefix)
            return False
        for info in found:
            store.delete(info.key)
    return True


def _feeds_an_alias(config: ModelConfig, store: ObjectStore, checkpoint: str) -> bool:
    """Whether what an alias names by now came from that checkpoint."""
    return any(
        read_version(store, config.name, pointer.version).manifest.details.get("checkpoint") == checkpoint
        for pointer in _pointers(store, config.name)
        if pointer is not None
    )


def _unlist_version(config: ModelConfig, store: ObjectStore, version: str) -> bool:
    """Delete the manifest of a version; False if an alias names the version by now, and it stays.

    Who moves an alias looks at the manifest after the swap. We look at the aliases after the deletion,
    and put the manifest back: one of the two sees the other.
    """
    key = version_prefix(config.name, version) + MANIFEST
    try:
        manifest = store.get(key).data
    except NotFound:  # somebody else retires it, too
        return True
    store.delete(key)
    if all(pointer is None or pointer.version != version for pointer in _pointers(store, config.name)):
        return True
    logger.warning("%s was given an alias while it was retired: it stays", version)
    try:
        store.put_if_absent(key, manifest)
    except PreconditionFailed:
        logger.info("%s was published again meanwhile, with the same content", version)
    return False


def _objects(config: ModelConfig, store: ObjectStore, decision: Decision) -> list[ObjectInfo]:
    """What is deleted, in that order: of each prefix first what makes it complete.

    A partition is found by its hashed rows, so these go last: after a failure the rest is still found.
    """
    if decision.kind == "version":
        prefixes = [version_prefix(config.name, decision.name)]
    elif decision.kind == "checkpoint":
        prefixes = [decision.name]
    else:
        dataset, ds = config.dataset.name, decision.ds
        prefixes = [data_docs_prefix(dataset, ds), rejected_prefix(dataset, ds), decision.name]
    first = {*(prefix + MANIFEST for prefix in prefixes), data_verdict(config.dataset.name, decision.ds)}
    return [
        info
        for prefix in prefixes
        for info in sorted(store.list(prefix), key=lambda info: (info.key not in first, info.key))
    ]
