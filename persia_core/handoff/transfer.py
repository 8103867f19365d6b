"""Moving a directory and its manifest to a store and back, with every byte checked.

Invariants: a manifest is stored only after every part under its prefix was read back and has the
listed SHA-256; parts under a prefix that has a manifest are never written again; a file is used
only after its own SHA-256 was checked.
"""

import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from persia_core.errors import Corrupt, StorageConflict
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Manifest, Part, sha256_file
from persia_core.handoff.object_store import NotFound, ObjectStore, PreconditionFailed
from persia_core.handoff.resume import bring

logger = logging.getLogger(__name__)

_PARALLEL = 4
_PROGRESS_S = 5.0


@dataclass(frozen=True)
class StoredManifest:
    """A manifest as it lies in the store; `sha256` (hex) is of its bytes there."""

    manifest: Manifest
    sha256: str


def read_manifest(store: ObjectStore, prefix: str, kind: str | None = None) -> StoredManifest:
    """The manifest under `prefix`. Raises NotFound, and Corrupt if it is damaged or of another kind."""
    key = prefix + MANIFEST
    data = store.get(key).data
    manifest = Manifest.from_bytes(data, store.uri(key))
    if kind is not None and manifest.kind != kind:
        raise Corrupt(
            f"manifest {store.uri(key)} is of a {manifest.kind}, expected a {kind}",
            "something else was written under this name; look at what wrote it",
        )
    _check_paths(manifest, store.uri(key))
    return StoredManifest(manifest, hashlib.sha256(data).hexdigest())


def upload_parts(store: ObjectStore, prefix: str, root: Path, manifest: Manifest) -> StoredManifest:
    """Store the parts of `manifest` from the directory `root`, read each back, then the manifest.

    Returns what is stored in the end. If a manifest with the same digest is there already (an
    earlier attempt, or somebody else with the same content), that one is kept and returned.
    Parts that an earlier attempt left behind are used if they are whole. Raises StorageConflict
    if a manifest with another digest is there, Corrupt if a part is not what the manifest says.
    """
    if (existing := _same_or_conflict(store, prefix, manifest)) is not None:
        logger.info("%s is stored already", store.uri(prefix))
        return existing
    _check_paths(manifest, str(root / MANIFEST))
    for part in manifest.parts:
        _check_file(root / part.path, part, str(root / part.path))
    stored = {info.key: info.size for info in store.list(prefix)}
    with tempfile.TemporaryDirectory(prefix=".verify-", dir=root.parent) as scratch:

        def send(index: int, part: Part) -> None:
            key, copy = prefix + part.path, Path(scratch, str(index))
            if stored.get(key) == part.size and _reads_back(store, key, part, copy):
                return
            store.upload(root / part.path, key)
            if not _reads_back(store, key, part, copy):
                raise Corrupt(
                    f"{store.uri(key)} reads back with another checksum than was written",
                    "the storage or the way to it is damaged; run the stage again, then look at the service",
                )

        _in_parallel("stored", store.uri(prefix), manifest.parts, send)
    data = manifest.to_bytes()
    try:
        store.put_if_absent(prefix + MANIFEST, data)
    except PreconditionFailed:
        existing = _same_or_conflict(store, prefix, manifest)
        if existing is None:
            raise StorageConflict(
                f"the manifest of {store.uri(prefix)} came and went while it was written",
                "find out what deletes there, then run again",
            ) from None
        return existing
    return StoredManifest(manifest, hashlib.sha256(data).hexdigest())


def download_parts(
    store: ObjectStore,
    prefix: str,
    manifest: Manifest,
    directory: Path,
    only: Collection[str] | None = None,
) -> None:
    """Bring every part of `manifest` to `directory`, checked; files that are whole already are kept.

    A large part that an earlier call had begun goes on where that was cut off. With `only`, the parts of
    these paths. Raises Corrupt naming the key of a part that is missing, has another size (nothing is
    downloaded then) or another SHA-256 (that file is removed).
    """
    _check_paths(manifest, store.uri(prefix + MANIFEST))
    check_no_links(manifest, directory)
    directory.mkdir(parents=True, exist_ok=True)
    parts = [part for part in manifest.parts if only is None or part.path in only]
    check_listed(store, prefix, parts)

    def fetch(_: int, part: Part) -> None:
        target = directory / part.path
        if target.is_file() and target.stat().st_size == part.size and sha256_file(target) == part.sha256:
            return
        key = prefix + part.path
        went_on = True
        while went_on:
            try:
                went_on = bring(store, key, part, target)
            except NotFound:
                raise Corrupt(f"{store.uri(key)} is missing", _RESTORE) from None
            try:
                return _check_file(target, part, store.uri(key))
            except Corrupt:
                target.unlink()
                if not went_on:
                    raise
                logger.warning("%s is fetched anew: what was here of it was damaged", store.uri(key))

    _in_parallel("fetched", store.uri(prefix), parts, fetch)


def check_listed(store: ObjectStore, prefix: str, parts: list[Part]) -> None:
    """Raises Corrupt naming the first part that is not there, or has another size; nothing is read."""
    stored = {info.key: info.size for info in store.list(prefix)}
    for part in parts:
        key = prefix + part.path
        if key not in stored:
            raise Corrupt(f"{store.uri(key)} is missing, its manifest lists it", _RESTORE)
        if stored[key] != part.size:
            raise Corrupt(
                f"{store.uri(key)} has {stored[key]} bytes, its manifest says {part.size}", _RESTORE
            )


def verify_parts(directory: Path, manifest: Manifest, unread: Collection[str] = ()) -> None:
    """Check that every part of `manifest` is in `directory` with its size and SHA-256; raises Corrupt.

    Of the parts in `unread`, which nobody is going to read, only the size is checked.
    """
    _check_paths(manifest, str(directory / MANIFEST))
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="verify") as pool:
        checks = [_check_size if part.path in unread else _check_file for part in manifest.parts]
        paths = [directory / part.path for part in manifest.parts]
        list(pool.map(lambda check, *what: check(*what), checks, paths, manifest.parts, map(str, paths)))


def download_and_verify(
    store: ObjectStore, prefix: str, directory: Path, kind: str | None = None
) -> Manifest:
    """The whole of `prefix` in `directory`, every part's size and SHA-256 checked.

    Raises Corrupt if the manifest is missing (so the prefix is incomplete) or anything is off.
    """
    try:
        found = read_manifest(store, prefix, kind)
    except NotFound:
        raise Corrupt(
            f"{store.uri(prefix)} has no {MANIFEST}: it is incomplete, or was never written",
            "run the stage that writes it again",
        ) from None
    download_parts(store, prefix, found.manifest, directory)
    return found.manifest


_RESTORE = "restore the object from a copy, or run the stage that wrote it again under a new name"


def _same_or_conflict(store: ObjectStore, prefix: str, manifest: Manifest) -> StoredManifest | None:
    try:
        existing = read_manifest(store, prefix)
    except NotFound:
        return None
    if existing.manifest.kind != manifest.kind or existing.manifest.digest != manifest.digest:
        raise StorageConflict(
            f"{store.uri(prefix)} holds something else already "
            f"({existing.manifest.kind} {existing.manifest.digest[:12]}, ours is {manifest.digest[:12]})",
            "what is stored is never rewritten: run under a new run name",
        )
    return existing


def _reads_back(store: ObjectStore, key: str, part: Part, copy: Path) -> bool:
    try:
        store.download(key, copy)
        return copy.stat().st_size == part.size and sha256_file(copy) == part.sha256
    except NotFound:
        return False
    finally:
        copy.unlink(missing_ok=True)


def _check_file(path: Path, part: Part, name: str) -> None:
    _check_size(path, part, name)
    if sha256_file(path) != part.sha256:
        raise Corrupt(f"{name} has another SHA-256 than its manifest says", _RESTORE)


def _check_size(path: Path, part: Part, name: str) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise Corrupt(f"{name} is missing, its manifest lists it", "run the stage that writes it") from None
    if size != part.size:
        raise Corrupt(f"{name} has {size} bytes, its manifest says {part.size}", _RESTORE)


def _check_paths(manifest: Manifest, where: str) -> None:
    """A path must be a file of its own: not the manifest, and not the folder of another part."""
    paths = {part.path for part in manifest.parts}
    folders = {path[:end] for path in paths for end, letter in enumerate(path) if letter == "/"}
    for path in sorted(paths):
        if path == MANIFEST or path in folders:
            raise Corrupt(
                f"manifest {where}: part {path!r} cannot be a file beside the others",
                "the manifest was damaged or written by something else; run the stage again",
            )


def check_no_links(manifest: Manifest, directory: Path) -> None:
    """Raise Corrupt if a link planted in `directory`, or in its place, would lead a part elsewhere."""
    if directory.is_symlink():
        raise Corrupt(f"{directory} is a symbolic link", "use a directory of its own")
    top = directory.resolve()
    inside: set[str] = set()  # folders that were looked at: a manifest may list 100,000 parts in one
    for part in manifest.parts:
        target = f"{directory}/{part.path}"
        folder = target.rpartition("/")[0]
        if folder not in inside and Path(folder).resolve().is_relative_to(top):
            inside.add(folder)
        if folder not in inside or os.path.islink(target):  # noqa: PTH114 - a Path for each costs much more
            raise Corrupt(f"{target} is reached through a symbolic link", "use an empty directory")


def _in_parallel(done: str, where: str, parts: list[Part], act: Callable[[int, Part], None]) -> None:
    """Run `act` on every part; the first error is raised once the calls under way have ended."""
    total = sum(part.size for part in parts)
    lock = threading.Lock()
    finished, moved, told = 0, 0, time.monotonic()

    def run(index: int, part: Part) -> None:
        nonlocal finished, moved, told
        act(index, part)
        with lock:
            finished, moved = finished + 1, moved + part.size
            now = time.monotonic()
            if finished == len(parts) or now - told >= _PROGRESS_S:
                told = now
                logger.info(
                    "%s: %s %d of %d parts, %.1f of %.1f MB",
                    *(where, done, finished, len(parts), moved / 1e6, total / 1e6),
                )

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(run, index, part) for index, part in enumerate(parts)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
