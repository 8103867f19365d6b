"""The cuts of a run on local disk: checkpoints within a partition, for the run itself to go on from."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from persia_core.checkpoint.contents import check_contents
from persia_core.checkpoint.cut_chain import check_link, links_of, manifest_in
from persia_core.checkpoint.layout import CUTS, is_embedding_part
from persia_core.checkpoint.part_headers import header_is_whole
from persia_core.config import ModelConfig
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Lineage, Manifest
from persia_core.handoff.transfer import verify_parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunIdentity:
    """What must be equal for a cut to be of the same run: what is trained on what, from where.

    The numbers of servers, embedding workers and trainers are no part of it, nor is where things are stored.
    """

    run: str
    ds: str
    parent: str | None
    hashed_digest: str
    training_digest: str

    @staticmethod
    def of(config: ModelConfig, run: str, ds: str, parent: str | None, hashed_digest: str) -> "RunIdentity":
        return RunIdentity(run, ds, parent, hashed_digest, config.training_digest())

    def difference(self, manifest: Manifest) -> str | None:
        """In what the run of a cut's manifest differs, for people; None if it is this one."""
        lineage: Lineage = manifest.lineage
        for what, ours, theirs in (
            ("run", self.run, manifest.details.get("run")),
            ("partition", self.ds, lineage.ds),
            ("parent checkpoint", self.parent, lineage.parent),
            ("hashed partition", self.hashed_digest, lineage.hashed_digest),
            ("configuration", self.training_digest, manifest.details.get("training_digest")),
        ):
            if ours != theirs:
                return f"it is of another {what}: {theirs}, not {ours}"
        return None


@dataclass(frozen=True)
class Cut:
    """A cut that has a manifest. `step` counts the steps of its run that are in it."""

    step: int
    directory: Path


def cut_directory(run_dir: Path, step: int) -> Path:
    """Where the cut after `step` steps of the run is written."""
    return run_dir / CUTS / str(step)


def cuts_of(run_dir: Path) -> list[Cut]:
    """The complete cuts of a run, whole or damaged, newest first."""
    found = [
        Cut(int(path.name), path)
        for path in (run_dir / CUTS).glob("*")
        if path.name.isdecimal() and (path / MANIFEST).is_file()
    ]
    return sorted(found, key=lambda cut: -cut.step)


def prune_cuts(run_dir: Path, keep: int) -> None:
    """Remove all but the newest `keep` cuts and those that they follow."""
    cuts = cuts_of(run_dir)
    needed = {step for cut in cuts[:keep] for step in _followed_by(cut)}
    for cut in cuts[keep:]:  # newest first: a delta goes before what it follows
        if cut.step not in needed:
            remove_cut(cut.directory)


def _followed_by(cut: Cut) -> list[int]:
    try:
        return [link.step for link in links_of(manifest_in(cut.directory), cut.step, str(cut.directory))]
    except Corrupt:
        return []  # nobody can go on from it, so it keeps nothing


def remove_cut(directory: Path) -> None:
    """The manifest goes first: what is left by an interruption is no cut."""
    (directory / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def newest_whole_cut(
    run_dir: Path, identity: RunIdentity, in_memory: Callable[[Path], bool] = lambda _: False
) -> Cut | None:
    """The cut to go on from, every byte of it and of what it follows checked; others are named and removed.

    `in_memory` says whether servers have the rows of an embedding part in memory. Where they have those of
    all parts, nobody is going to read the rows of these, or of what they follow: only their sizes are checked
    and their headers. A part with another header than its manifest says is read all the same.

    Also removed is what was not completed, so that nothing but older cuts are left beside the one returned.
    """
    chosen = None
    reader = CutReader(in_memory)
    for cut in cuts_of(run_dir):
        try:
            manifest = reader.whole(cut.directory)
        except Corrupt as error:
            log.warning("the cut at step %d is damaged: %s", cut.step, error.what)
        else:
            difference = identity.difference(manifest)
            if difference is None:
                chosen = cut
                break
            log.warning("the cut at step %d is not used: %s", cut.step, difference)
        remove_cut(cut.directory)
    kept = {cut.directory for cut in cuts_of(run_dir)}
    for path in (run_dir / CUTS).glob("*"):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    return chosen


class CutReader:
    """Checks cuts together with what they follow. Each file is read once, however many cuts follow it.

    `in_memory` is that of `newest_whole_cut`.
    """

    def __init__(self, in_memory: Callable[[Path], bool] = lambda _: False) -> None:
        self._in_memory = in_memory
        self._read: dict[tuple[Path, bool], Manifest | Corrupt] = {}

    def whole(self, directory: Path) -> Manifest:
        """The manifest of the cut in `directory`, whose parts are all there, each with its size and SHA-256.

        So are those of the cuts that it follows, and these are the ones that it was taken after. Raises
        Corrupt naming the file that is not what it should be.
        """
        tables = [path for path in directory.glob("*") if is_embedding_part(path.name)]
        unread = bool(tables) and all(map(self._in_memory, tables))
        manifest = self._alone(directory, unread)
        for link in links_of(manifest, int(directory.name), str(directory / MANIFEST)):
            beneath = directory.parent / str(link.step)
            check_link(self._alone(beneath, unread), link, str(beneath / MANIFEST), str(directory))
        if unread:
            log.info("the tables of %s are in memory: no row of its %d parts is read", directory, len(tables))
        return manifest

    def _alone(self, directory: Path, unread: bool) -> Manifest:
        key = (directory, unread)
        if key not in self._read:
            try:
                self._read[key] = _read_alone(directory, unread)
            except Corrupt as error:
                self._read[key] = error
        found = self._read[key]
        if isinstance(found, Corrupt):
            raise found
        return found


def _read_alone(directory: Path, unread: bool) -> Manifest:
    path, manifest = directory / MANIFEST, manifest_in(directory)
    if manifest.kind != "cut":
        raise Corrupt(
            f"{path} is of a {manifest.kind}, expected a cut", "remove it; it was put there by hand"
        )
    check_contents(manifest, str(path))
    parts = [part.path for part in manifest.parts if unread and is_embedding_part(part.path)]
    verify_parts(directory, manifest, [name for name in parts if header_is_whole(manifest, directory, name)])
    return manifest
