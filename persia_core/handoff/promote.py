"""Promotion: the champion pointer moves forward, by compare-and-swap, to a version that passed."""

import logging

from persia_core.config import ModelConfig
from persia_core.errors import PromotionRefused
from persia_core.handoff.champion import Promotion, move_of, require_verdict, require_whole, swap_champion
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore, PreconditionFailed
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer

logger = logging.getLogger(__name__)

_ATTEMPTS = 10


def promote(
    config: ModelConfig,
    store: ObjectStore,
    version: str,
    reason: str = "passed the gate",
    *,
    who: str | None = None,
    force: bool = False,
) -> Promotion:
    """Make a version champion. Doing it twice is no error.

    Asks for a stored verdict that passed, on exactly the manifest that lies there now. Forward only: a
    version of an older partition than the champion ever had is refused, and so is one that was rolled
    back; one of the same partition replaces it. If somebody else moves the pointer meanwhile, we go on
    only if ours is of a newer partition than theirs. Raises PromotionRefused saying who is champion,
    Corrupt if the version is not there.

    With `force` the verdict and a rollback are overruled, never the checksums (every part is read back)
    and never the order of partitions. It takes `who`, and is kept with reason and name in the history.
    """
    stored = read_version(store, config.name, version)
    if force:
        if not who:
            raise PromotionRefused(f"nobody is named who forces {version}", "say who decides it: --who NAME")
        require_whole(store, config.name, version, stored)
    else:
        require_verdict(store, config.name, version, stored.sha256)
    move = move_of(version, stored, "forced" if force else "promoted", reason, who)
    lost = False
    for _ in range(_ATTEMPTS):
        found = read_pointer(store, config.name, CHAMPION)
        current, etag = found if found else (None, None)
        if current is not None:
            if current.version == version and current.manifest_sha256 == stored.sha256:
                return Promotion(version, move.ds, current.previous, moved=False)
            _require_forward(version, move.ds, current, force=force)
            if lost and move.ds == current.ds:
                raise PromotionRefused(
                    f"version {current.version} was promoted meanwhile, of the same partition as {version}",
                    "compare the two; to replace it all the same, promote again",
                )
        try:
            return swap_champion(store, config.name, move, current, etag)
        except PreconditionFailed:
            lost = True
            logger.info("the champion of %s moved meanwhile, reading it again", config.name)
    raise PromotionRefused(
        f"the champion of {config.name} moved {_ATTEMPTS} times while {version} was promoted",
        "find out who else promotes this model, then run again",
    )


def _require_forward(version: str, ds: str, current: Pointer, *, force: bool) -> None:
    if ds < current.front:
        newer = f"champion {current.version} is of a newer partition"
        if current.ds < current.front:
            newer = (
                f"the champion had come to partition {current.front} before {current.version} was put back"
            )
        raise PromotionRefused(
            f"version {version} is behind: {newer}",
            "nothing to do: a late day does not replace a newer model; going back is `persia rollback`",
        )
    if not force and (back := current.withdrawn(version)) is not None:
        raise PromotionRefused(
            f"version {version} was rolled back by {back.promoted_by or 'somebody'}: {back.reason}",
            "train the partition again, or overrule it: --force --reason TEXT --who NAME",
        )
