"""What to offer when the checkpoint that a run would start from is damaged: the newest one that is not."""

import logging
import tempfile
from pathlib import Path

from persia_core.checkpoint.contents import check_contents
from persia_core.checkpoint.select import checkpoint_prefixes
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.transfer import download_parts, read_manifest

log = logging.getLogger(__name__)


def offer_last_good(
    store: ObjectStore, model: str, before_ds: str, error: Corrupt, work: Path, bad: str | None = None
) -> Corrupt:
    """`error`, which the checkpoint `bad` has caused, with the last good one in its remedy.

    `bad` is a prefix, None if it is not known which one it was. Every byte of what is offered was read and
    checked, one part at a time, under `work`.
    """
    good, damaged = last_good_checkpoint(store, model, before_ds, work, [bad] if bad is not None else [])
    if good is None:
        return Corrupt(error.what, f"{error.remedy}. No earlier checkpoint of {model} is whole")
    manifests = " and ".join(store.uri(prefix + MANIFEST) for prefix in damaged)
    return Corrupt(
        error.what,
        f"{error.remedy}. The last good checkpoint is {store.uri(good)}: to go on from it, delete "
        f"{manifests or 'the damaged manifest'}",
    )


def last_good_checkpoint(
    store: ObjectStore, model: str, before_ds: str, work: Path, known_bad: list[str]
) -> tuple[str | None, list[str]]:
    """The prefix of the newest whole checkpoint before `before_ds`, and those that were found damaged."""
    work.mkdir(parents=True, exist_ok=True)
    damaged = list(known_bad)
    for prefix in checkpoint_prefixes(store, model, before_ds):
        if prefix in damaged:
            continue
        log.info("looking whether %s is whole", store.uri(prefix))
        try:
            manifest = read_manifest(store, prefix, "checkpoint").manifest
            check_contents(manifest, store.uri(prefix + MANIFEST))
            _check_parts(store, prefix, manifest, work)
        except Corrupt as error:
            log.warning("%s", error.what)
            damaged.append(prefix)
        else:
            return prefix, damaged
    return None, damaged


def _check_parts(store: ObjectStore, prefix: str, manifest: Manifest, work: Path) -> None:
    for part in manifest.parts:
        with tempfile.TemporaryDirectory(prefix=".verify-", dir=work) as scratch:
            alone = manifest.model_copy(update={"parts": [part]})
            download_parts(store, prefix, alone, Path(scratch))
