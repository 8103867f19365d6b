"""Files of versions that lie here already, put to use for a new one: equal parts, and tables by delta.

Nothing that lies here is trusted: a part is used only if it has the SHA-256 that the new version's manifest
says, a table made by delta only if it has the digest that this manifest says.
"""

import itertools
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persia_core.errors import Corrupt
from persia_core.handoff.delta import apply_delta
from persia_core.handoff.embedding_file import EmbeddingFile
from persia_core.handoff.embedding_rows import IDS
from persia_core.handoff.layout import MANIFEST, version_name, version_prefix
from persia_core.handoff.manifest import Manifest, Part, sha256_file
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.serving_schema import DELTA, changed_file, embedding_file, removed_file
from persia_core.handoff.transfer import check_no_links, download_parts

logger = logging.getLogger(__name__)

_MOST_DELTAS = 14  # behind: above that the version is fetched in full


def serving_parts(manifest: Manifest) -> list[Part]:
    """The parts that make up the version in full: all but its delta."""
    return [part for part in manifest.parts if not part.path.startswith(DELTA)]


def reuse(store: ObjectStore, model: str, manifest: Manifest, cache: Path, target: Path) -> set[str]:
    """Put what can be had from the versions under `cache` into `target`; returns the paths that are whole.

    Equal parts are linked. Tables are made from an older version and deltas where that is less to fetch
    than the tables; these are whole by their digest, which does not depend on how Parquet was written.
    Raises Corrupt for links in `target`, and where a delta is damaged.
    """
    check_no_links(manifest, target)
    known = {version.name: version for version in _local_versions(cache) if version != target}
    _link_equal_parts(manifest, known, target)
    whole = {part.path for part in serving_parts(manifest) if _is_whole(target / part.path, part)}
    missing = [
        name
        for name in manifest.details.get("tables") or {}
        if embedding_file(name) not in whole and not _has_digest(manifest, name, target)
    ]
    tables = {embedding_file(name) for name in manifest.details.get("tables") or {} if name not in missing}
    chain = _chain(store, model, manifest, known, missing) if missing else []
    if chain:
        with tempfile.TemporaryDirectory(prefix=".delta-", dir=cache) as scratch:
            _fetch_deltas(store, model, chain, missing, Path(scratch))
            for name in missing:
                if _by_deltas(name, chain, known[chain[0].name], Path(scratch), target):
                    tables.add(embedding_file(name))
    return whole | tables


def _local_versions(cache: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(cache.glob(f"*/{MANIFEST}")))


def _link_equal_parts(manifest: Manifest, known: dict[str, Path], target: Path) -> None:
    wanted = {part.sha256: part for part in serving_parts(manifest)}
    for directory in known.values():
        try:
            other = Manifest.from_bytes((directory / MANIFEST).read_bytes(), str(directory / MANIFEST))
        except (Corrupt, OSError) as error:
            logger.warning("nothing of %s is used: %s", directory, error)
            continue
        for part in other.parts:
            mine = wanted.get(part.sha256)
            if mine is None or (target / mine.path).exists() or not _is_whole(directory / part.path, mine):
                continue
            (target / mine.path).parent.mkdir(parents=True, exist_ok=True)
            os.link(directory / part.path, target / mine.path, follow_symlinks=False)


def _is_whole(path: Path, part: Part) -> bool:
    plain = path.is_file() and not path.is_symlink()
    return plain and path.stat().st_size == part.size and sha256_file(path) == part.sha256


def _has_digest(manifest: Manifest, name: str, target: Path) -> bool:
    """Whether a table that was made by delta, so with other bytes perhaps, is the one of the manifest."""
    path = target / embedding_file(name)
    if not path.is_file() or path.is_symlink():
        return False
    table = manifest.details["tables"][name]
    try:
        file = EmbeddingFile(path, table["embeddings"], table["dim"], table["rows"])
        return file.digest() == str(table["digest"])
    except Corrupt:
        return False


@dataclass(frozen=True)
class _Step:
    """A version on the way from one that is here to the new one."""

    name: str
    manifest: Manifest

    def table(self, name: str) -> dict[str, Any]:
        table: dict[str, Any] = self.manifest.details["tables"][name]
        return table


def _chain(
    store: ObjectStore, model: str, manifest: Manifest, known: dict[str, Path], tables: list[str]
) -> list[_Step]:
    """The versions from one that is here to the new one, oldest first; empty if that is no shorter way.

    The first of them is here; of the others the delta is to be fetched.
    """
    wanted = {embedding_file(name) for name in tables}
    budget = _budget(manifest, wanted)
    chain = [_Step(version_name(manifest.lineage.ds, manifest.digest), manifest)]
    while (delta := chain[0].manifest.details.get("delta")) and len(chain) <= _MOST_DELTAS:
        budget -= sum(part.size for part in chain[0].manifest.parts if part.path.startswith(DELTA))
        if budget < 0:
            return []
        name = delta["parent"]
        here = known.get(name)
        try:
            if here is not None and all((here / path).is_file() for path in wanted):
                # Its own manifest will do: the store may have retired it, and the digest decides in the end.
                local = Manifest.from_bytes((here / MANIFEST).read_bytes(), str(here / MANIFEST))
                return [_Step(name, local), *chain]
            chain.insert(0, _Step(name, read_version(store, model, name).manifest))
        except (Corrupt, OSError) as error:
            logger.warning("no deltas from %s: %s", name, error)
            return []
    return []


def _budget(manifest: Manifest, tables: set[str]) -> int:
    """How many bytes of deltas are worth fetching: as many as the tables have."""
    return sum(part.size for part in manifest.parts if part.path in tables)


def _fetch_deltas(
    store: ObjectStore, model: str, chain: list[_Step], tables: list[str], scratch: Path
) -> None:
    paths = {path for name in tables for path in (changed_file(name), removed_file(name))}
    for step in chain[1:]:
        download_parts(
            store, version_prefix(model, step.name), step.manifest, scratch / step.name, only=paths
        )


def _by_deltas(name: str, chain: list[_Step], start: Path, scratch: Path, target: Path) -> bool:
    """Make one table of the new version; False, and nothing there, if it has another digest."""
    table = chain[0].table(name)
    kind, dim = table["embeddings"], table["dim"]
    made, digest = start / embedding_file(name), ""
    try:
        for before, step in itertools.pairwise(chain):
            counts = step.manifest.details["delta"]["tables"][name]
            out = scratch / f"{step.name}.{name}"
            _, digest = apply_delta(
                EmbeddingFile(made, kind, dim, before.table(name)["rows"]),
                EmbeddingFile(scratch / step.name / changed_file(name), kind, dim, counts["changed"]),
                EmbeddingFile(scratch / step.name / removed_file(name), IDS, 0, counts["removed"]),
                out,
                kind,
                dim,
            )
            if made.is_relative_to(scratch):
                made.unlink()
            made = out
    except Corrupt as error:
        logger.warning("table %s is fetched in full: %s", name, error)
        return False
    if digest != chain[-1].table(name)["digest"]:
        logger.warning("table %s is fetched in full: %s is not what was published", name, start)
        return False
    (target / embedding_file(name)).parent.mkdir(parents=True, exist_ok=True)
    made.replace(target / embedding_file(name))
    logger.info("made table %s from %s and %d deltas", name, chain[0].name, len(chain) - 1)
    return True
