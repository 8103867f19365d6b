"""What promotion and rollback have in common: the one swap of the champion pointer."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from persia_core.errors import PromotionRefused
from persia_core.handoff.evaluate import scratch
from persia_core.handoff.layout import verdict_key, version_prefix
from persia_core.handoff.models import version_exists
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, Action, Move, Pointer, swap_pointer
from persia_core.handoff.transfer import StoredManifest, download_parts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promotion:
    """`moved` is False if the version was champion already; `previous` was champion before it."""

    version: str
    ds: str
    previous: str | None
    moved: bool


def move_of(version: str, stored: StoredManifest, action: Action, reason: str, who: str | None) -> Move:
    """The move that makes `version` champion, at this moment. Raises PromotionRefused without a reason."""
    if not reason.strip():
        raise PromotionRefused(f"no reason is given for {version}", "say why: --reason TEXT")
    return Move(
        version=version,
        ds=stored.manifest.lineage.ds,
        manifest_sha256=stored.sha256,
        reason=reason.strip()[:1000],
        promoted_by=None if who is None else who.strip()[:200],
        action=action,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def swap_champion(
    store: ObjectStore, model: str, move: Move, current: Pointer | None, etag: str | None
) -> Promotion:
    """Make `move`'s version champion if the pointer is still `current`; PreconditionFailed otherwise.

    Raises PromotionRefused if the version was retired at that moment; the pointer is then put back.
    """
    pointer = current.followed_by(move) if current is not None else Pointer(**dict(move))
    new = swap_pointer(store, model, CHAMPION, pointer, etag)
    # Whoever retires a version deletes its manifest, then looks at the pointers, and puts it back if one
    # names it. We have set the pointer and look at the manifest: one of the two sees the other.
    if not version_exists(store, model, move.version):
        if current is not None:
            swap_pointer(store, model, CHAMPION, current, new)
        raise PromotionRefused(
            f"version {move.version} was retired while it was made champion",
            "`persia models list` shows the versions that are left",
        )
    logger.info("champion of %s is %s, was %s", model, move.version, pointer.previous)
    return Promotion(move.version, move.ds, pointer.previous, moved=True)


def require_whole(store: ObjectStore, model: str, version: str, stored: StoredManifest) -> None:
    """Read every part back. Raises Corrupt naming one that is missing or damaged."""
    with scratch() as directory:
        download_parts(store, version_prefix(model, version), stored.manifest, directory / "parts")


def require_verdict(store: ObjectStore, model: str, version: str, manifest_sha256: str) -> None:
    """Raises PromotionRefused unless a verdict on exactly this manifest is stored and passed."""
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
            "the champion stays; to promote it all the same: --force --reason TEXT --who NAME",
        )
