"""Promotion: the champion pointer moves forward, by compare-and-swap, to a version that passed."""

import logging
from dataclasses import dataclass

from persia_core.config import ModelConfig
from persia_core.errors import PromotionRefused
from persia_core.handoff.layout import verdict_key
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore, PreconditionFailed
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer, swap_pointer

logger = logging.getLogger(__name__)

_ATTEMPTS = 10


@dataclass(frozen=True)
class Promotion:
    """`moved` is False if the version was champion already; `previous` was champion before it."""

    version: str
    ds: str
    previous: str | None
    moved: bool


def promote(
    config: ModelConfig, store: ObjectStore, version: str, reason: str = "passed the gate"
) -> Promotion:
    """Make a version champion. Doing it twice is no error.

    Asks for a stored verdict that passed, on exactly the manifest that lies there now. Forward only:
    a version of an older partition than the champion's is refused, one of the same partition
    replaces it. If somebody else moves the pointer meanwhile, we go on only if ours is of a newer
    partition than theirs. Raises PromotionRefused saying who is champion, Corrupt if the version is
    not there.
    """
    stored = read_version(store, config.name, version)
    _require_verdict(config.name, store, version, stored.sha256)
    ds = stored.manifest.lineage.ds
    lost = False
    for _ in range(_ATTEMPTS):
        found = read_pointer(store, config.name, CHAMPION)
        current, etag = found if found else (None, None)
        if current is not None:
            if current.version == version and current.manifest_sha256 == stored.sha256:
                return Promotion(version, ds, current.previous, moved=False)
            if ds < current.ds:
                raise PromotionRefused(
                    f"version {version} is behind: champion {current.version} is of a newer partition",
                    "nothing to do: a late day does not replace a newer model; going back is a rollback",
                )
            if lost and ds == current.ds:
                raise PromotionRefused(
                    f"version {current.version} was promoted meanwhile, of the same partition as {version}",
                    "compare the two; to replace it all the same, promote again",
                )
        previous = current.version if current else None
        if current is not None and current.version == version:
            previous = current.previous
        pointer = Pointer(
            version=version,
            ds=ds,
            manifest_sha256=stored.sha256,
            previous=previous,
            reason=reason,
        )
        try:
            swap_pointer(store, config.name, CHAMPION, pointer, etag)
        except PreconditionFailed:
            lost = True
            logger.info("the champion of %s moved meanwhile, reading it again", config.name)
            continue
        logger.info("champion of %s is %s, was %s", config.name, version, pointer.previous)
        return Promotion(version, ds, pointer.previous, moved=True)
    raise PromotionRefused(
        f"the champion of {config.name} moved {_ATTEMPTS} times while {version} was promoted",
        "find out who else promotes this model, then run again",
    )


def _require_verdict(model: str, store: ObjectStore, version: str, manifest_sha256: str) -> None:
    from persia_core.validation.verdict import read_model_verdict

    verdict = read_model_verdict(store, verdict_key(model, version))
    validate = f"run `persia validate model --version {version}`"
    if verdict is None:
        raise PromotionRefused(f"version {version} was not validated", validate)
    if verdict.version != version or verdict.manifest_sha256 != manifest_sha256:
        raise PromotionRefused(f"the verdict on {version} is of another manifest", validate)
    if not verdict.passed:
        raise PromotionRefused(
            f"version {version} did not pass: {'; '.join(verdict.reasons())}",
            "the champion stays; a version that was refused is not promoted",
        )
