"""The cuts of a run in the object store, from which a retry on another host goes on.

They lie under a key of their own and have a kind of their own, so nobody takes one for a checkpoint.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from persia_core.checkpoint.cuts import Cut, RunIdentity, cut_directory, read_cut, remove_cut
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
        """Store a cut: parts in parallel, each read back, the manifest last.

        Another one at the same step, of an earlier attempt, goes first. Raises Corrupt if a part is not what
        the manifest says.
        """
        manifest = Manifest.from_bytes((cut.directory / MANIFEST).read_bytes(), str(cut.directory))
        prefix = self._prefix(cut.step)
        try:
            if read_manifest(self._store, prefix).manifest.digest != manifest.digest:
                self.remove(cut.step)
        except NotFound:
            pass
        except Corrupt:
            self.remove(cut.step)
        upload_parts(self._store, prefix, cut.directory, manifest)

    def newest_whole(self, run_dir: Path, identity: RunIdentity, after: int) -> Cut | None:
        """The newest that is of this run and of a step above `after`, fetched to its place in `run_dir`.

        Newer ones that are damaged or foreign are named and removed.
        """
        for step in self.steps():
            if step <= after:
                return None
            where, directory = self._store.uri(self._prefix(step)), cut_directory(run_dir, step)
            try:
                manifest = read_manifest(self._store, self._prefix(step), "cut").manifest
                difference = identity.difference(manifest)
                if difference is None:
                    download_parts(self._store, self._prefix(step), manifest, directory)
                    (directory / MANIFEST).write_bytes(manifest.to_bytes())
                    read_cut(directory)
                    return Cut(step, directory)
                log.warning("the stored cut %s is not used: %s", where, difference)
            except Corrupt as error:
                log.warning("the stored cut %s is damaged: %s", where, error.what)
            if directory.exists():
                remove_cut(directory)
            self.remove(step)
        return None

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep`, and what was not completed of older ones."""
        kept = self.steps()[:keep]
        if kept:
            self._remove(lambda step: step < min(kept))

    def remove(self, step: int) -> None:
        """Remove the cut at `step`."""
        self._remove(lambda other: other == step)

    def remove_all(self) -> None:
        """Remove every cut of the run, complete or not."""
        self._remove(lambda _: True)

    def _remove(self, wanted: Callable[[int], bool]) -> None:
        """Manifests go first: what is left by an interruption is no cut."""
        keys = []
        for info in self._store.list(self._root):
            step = info.key.removeprefix(self._root).partition("/")[0]
            if step.isdecimal() and wanted(int(step)):
                keys.append(info.key)
        for key in sorted(keys, key=lambda key: not key.endswith("/" + MANIFEST)):
            self._store.delete(key)
