"""Rollback: an explicit step back of the champion pointer, by a person, with a reason."""

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, PromotionRefused
from persia_core.handoff.champion import Promotion, move_of, require_verdict, require_whole, swap_champion
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore, PreconditionFailed
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer


def rollback(config: ModelConfig, store: ObjectStore, version: str, reason: str, who: str) -> Promotion:
    """Make an earlier version champion again. Doing it twice is no error.

    The version must have been champion before, with exactly the manifest that lies there now, or have a
    verdict that passed; every part of it is read back first. What was champion cannot be promoted again
    without force; the next newer version goes forward from there as usual, and a version of a partition
    older than the champion ever had stays refused. Raises PromotionRefused if there is no champion, if the
    version is newer than it, or if the pointer moved meanwhile; Corrupt if the version is damaged.
    """
    found = read_pointer(store, config.name, CHAMPION)
    if found is None:
        raise PromotionRefused(f"{config.name} has no champion to roll back", "promote a version")
    current, etag = found
    stored = read_version(store, config.name, version)
    move = move_of(version, stored, "rolled back", reason, who)
    if (current.version, current.manifest_sha256) == (version, stored.sha256):
        return Promotion(version, move.ds, current.previous, moved=False)
    if move.ds > current.ds:
        raise PromotionRefused(
            f"version {version} is newer than champion {current.version}", "going forward is `persia promote`"
        )
    if not _was_champion(current, version, stored.sha256):
        require_verdict(store, config.name, version, stored.sha256)
    require_whole(store, config.name, version, stored)
    try:
        return swap_champion(store, config.name, move, current, etag)
    except PreconditionFailed:
        now = read_pointer(store, config.name, CHAMPION)
        raise PromotionRefused(
            f"the champion moved while it was rolled back: it is {now[0].version if now else 'gone'}",
            "look at `persia models history`, then decide again",
        ) from None


def _was_champion(current: Pointer, version: str, manifest_sha256: str) -> bool:
    """Raises Corrupt if it was champion with another manifest than it has now."""
    earlier = {move.manifest_sha256 for move in current.history if move.version == version}
    if earlier and manifest_sha256 not in earlier:
        raise Corrupt(
            f"the manifest of {version} is not the one that it had as champion",
            "the manifest was replaced; roll back to a version that is intact",
        )
    return bool(earlier)
