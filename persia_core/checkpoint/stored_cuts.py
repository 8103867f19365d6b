"""The cuts of a run in the object store, from which a retry on another host goes on.

They lie under a key of their own and have a kind of their own, so nobody takes one for a checkpoint.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from persia_core.checkpoint.cut_chain import chain_directories, check_link, links_of, manifest_in
from persia_core.checkpoint.cuts import Cut, CutReader, RunIdentity, cut_directory, remove_cut
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST, cut_prefix, cuts_root
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.transfer import download_parts, read_manifest, upload_parts

log = logging.getLogger(__name__)

_COMPLETE = re.compile(r"(\d+)/" + re.escape(MANIFEST))


class StoredCuts:
    """Those of one run of a model. Every call raises StorageUnavailable."""

    def __init__(self, store: ObjectStore, model: str, ds: str, run: str) -> None:
        self._store = store
        self._root = cuts_root(model, ds, run)
        self._of = (model, ds, run)

    def _prefix(self, step: int) -> str:
        return cut_prefix(*self._of, step)

    def steps(self) -> list[int]:
        """The steps of the complete ones, newest first."""
        keys = (info.key.removeprefix(self._root) for info in self._store.list(self._root))
        return sorted((int(found[1]) for key in keys if (found := _COMPLETE.fullmatch(key))), reverse=True)

    def put(self, cut: Cut) -> None:
        """Store a cut: parts in parallel, each read back, the manifest last; before it, what it follows.

        Another one at the same step, of an earlier attempt, goes first. Raises Corrupt if a part is not what
        the manifest says.
        """
        for directory in chain_directories(cut.directory):  # the base first: no delta is without it
            self._put_alone(int(directory.name), directory)

    def _put_alone(self, step: int, directory: Path) -> None:
        manifest, prefix = manifest_in(directory), self._prefix(step)
        try:
            if read_manifest(self._store, prefix).manifest.digest != manifest.digest:
                self.remove(step)
        except NotFound:
            pass
        except Corrupt:
            self.remove(step)
        upload_parts(self._store, prefix, directory, manifest)

    def newest_whole(self, run_dir: Path, identity: RunIdentity, after: int) -> Cut | None:
        """The newest that is of this run and of a step above `after`, fetched to its place in `run_dir`.

        With it comes what it follows. Newer ones that are damaged or foreign are named and removed.
        """
        for step in self.steps():
            if step <= after:
                return None
            where, directory = self._store.uri(self._prefix(step)), cut_directory(run_dir, step)
            try:
                manifest = read_manifest(self._store, self._prefix(step), "cut").manifest
                difference = identity.difference(manifest)
                if difference is None:
                    for number, each in self._chain_of(step, manifest):
                        self._fetch(number, each, cut_directory(run_dir, number))
                    CutReader().whole(directory)
                    return Cut(step, directory)
                log.warning("the stored cut %s is not used: %s", where, difference)
            except Corrupt as error:
                log.warning("the stored cut %s is damaged: %s", where, error.what)
            if directory.exists():
                remove_cut(directory)
            self.remove(step)
        return None

    def _chain_of(self, step: int, manifest: Manifest) -> list[tuple[int, Manifest]]:
        """By step, the cuts that hold the rows of the one at `step`, the base first. Raises Corrupt."""
        key = self._store.uri(self._prefix(step) + MANIFEST)
        chain = []
        for link in links_of(manifest, step, key):
            beneath = self._store.uri(self._prefix(link.step) + MANIFEST)
            try:
                found = read_manifest(self._store, self._prefix(link.step)).manifest
            except NotFound:
                raise Corrupt(f"{beneath} is missing, {key} follows it", "run the task again") from None
            check_link(found, link, beneath, key)
            chain.append((link.step, found))
        return [*chain, (step, manifest)]

    def _fetch(self, step: int, manifest: Manifest, directory: Path) -> None:
        if not _is_at(directory, manifest):
            remove_cut(directory)  # whatever was there: a damaged one, or that of another attempt
        download_parts(self._store, self._prefix(step), manifest, directory)
        (directory / MANIFEST).write_bytes(manifest.to_bytes())

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` and what they follow; of older ones also what is incomplete."""
        kept = self.steps()[:keep]
        needed = {number for step in kept for number in self._followed_by(step)}
        if kept:
            self._remove(lambda step: step < min(kept) and step not in needed)

    def _followed_by(self, step: int) -> list[int]:
        where = self._store.uri(self._prefix(step) + MANIFEST)
        try:
            manifest = read_manifest(self._store, self._prefix(step)).manifest
            return [link.step for link in links_of(manifest, step, where)]
        except Corrupt:
            return []  # nobody can go on from it, so it keeps nothing

    def remove(self, step: int) -> None:
        """Remove the cut at `step`."""
        self._remove(lambda other: other == step)

    def remove_all(self) -> None:
        """Remove every cut of the run, complete or not."""
        self._remove(lambda _: True)

    def _remove(self, wanted: Callable[[int], bool]) -> None:
        """Manifests go first, that of a delta before what it follows: an interruption leaves no half cut."""
        keys: list[tuple[bool, int, str]] = []
        for info in self._store.list(self._root):
            step = info.key.removeprefix(self._root).partition("/")[0]
            if step.isdecimal() and wanted(int(step)):
                keys.append((not info.key.endswith("/" + MANIFEST), -int(step), info.key))
        for *_, key in sorted(keys):
            self._store.delete(key)


def _is_at(directory: Path, manifest: Manifest) -> bool:
    try:
        return manifest_in(directory).digest == manifest.digest
    except Corrupt:
        return False
