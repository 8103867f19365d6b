"""Sweeping: what attempts that never finished left behind, once it is old enough to be abandoned."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from persia_core.config import ModelConfig
from persia_core.handoff.layout import (
    MANIFEST,
    RAW_ROOT,
    all_cuts_root,
    checkpoints_root,
    hashed_root,
    mark_roots,
    rejected_root,
    versions_root,
)
from persia_core.handoff.marks import retiring
from persia_core.handoff.object_store import ObjectInfo, ObjectStore

logger = logging.getLogger(__name__)

LEAST_AGE_S = 3600.0  # an upload that is younger may be under way


@dataclass(frozen=True)
class Leftover:
    """Parts without a manifest under `key` (a prefix), uploads of `key` that were never completed, or a mark.

    `modified` is the last time that something was added to it, in seconds since 1970.
    """

    kind: str
    key: str
    objects: int
    bytes: int
    modified: float


@dataclass(frozen=True)
class Sweep:
    """What was found that is older than asked for. Nothing was deleted unless `applied`."""

    applied: bool
    leftovers: list[Leftover]


def sweep(
    config: ModelConfig, store: ObjectStore, *, older_than_s: float, now: float, apply: bool = False
) -> Sweep:
    """Delete parts without a manifest and abort uploads to which nothing was added for `older_than_s`.

    `now` is in seconds since 1970. Looked at are versions, checkpoints and cuts of the model and hashed and
    rejected partitions of its dataset. Without `apply` nothing is deleted. Raises ValueError for an age
    below an hour, at which a stage may still be at work.
    """
    if older_than_s < LEAST_AGE_S:
        raise ValueError("what is younger than an hour may be of a stage at work")
    before = now - older_than_s
    found = [*_marks_of_the_dead(config, store, before, apply=apply)]
    found += _parts_without_manifest(config, store, before, apply=apply)
    for upload in store.uploads():
        if upload.modified < before and not upload.key.startswith(RAW_ROOT):  # raw files are their writers'
            if apply:
                store.abort_upload(upload)
            found.append(Leftover("upload", upload.key, 1, upload.size, upload.modified))
    for each in found:
        logger.info("%s %s %s", "swept" if apply else "would sweep", each.kind, each.key)
    return Sweep(apply, found)


def _roots(config: ModelConfig) -> list[tuple[str, int]]:
    """Where prefixes with manifests lie, and how many path components one of them has."""
    return [
        (versions_root(config.name), 1),
        (checkpoints_root(config.name), 2),
        (all_cuts_root(config.name), 3),
        (hashed_root(config.dataset.name), 1),
        (rejected_root(config.dataset.name), 1),
    ]


def _marks_of_the_dead(
    config: ModelConfig, store: ObjectStore, before: float, *, apply: bool
) -> Iterator[Leftover]:
    """Marks so old that nobody is at work under them any more."""
    for root in mark_roots(config.name):
        for info in store.list(root):
            if info.modified < before:
                if apply:
                    store.delete(info.key)
                yield Leftover("mark", info.key, 1, info.size, info.modified)


def _parts_without_manifest(
    config: ModelConfig, store: ObjectStore, before: float, *, apply: bool
) -> Iterator[Leftover]:
    for root, depth in _roots(config):

        def prefix_of(info: ObjectInfo, root: str = root, depth: int = depth) -> str:
            steps = info.key.removeprefix(root).split("/")
            return root + "".join(f"{step}/" for step in steps[:depth]) if len(steps) > depth else ""

        for prefix, infos in groupby(store.list(root), prefix_of):
            parts = list(infos)
            if not prefix or not _abandoned(prefix, parts, before):
                continue
            if apply:
                with retiring(store, prefix) as alone:
                    parts = list(store.list(prefix))  # again: somebody may have gone on with it meanwhile
                    if not alone or not _abandoned(prefix, parts, before):
                        continue
                    for info in parts:
                        store.delete(info.key)
            newest = max(info.modified for info in parts)
            yield Leftover("parts", prefix, len(parts), sum(info.size for info in parts), newest)


def _abandoned(prefix: str, parts: list[ObjectInfo], before: float) -> bool:
    complete = any(info.key == prefix + MANIFEST for info in parts)
    return bool(parts) and not complete and all(info.modified < before for info in parts)
