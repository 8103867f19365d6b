"""Picking a model up: resolve the pointer, fetch, verify, load. The reference for serving teams.

model = pick_up(open_store(config.storage), "movielens_dlrm", Path("models")).model
probabilities = model.predict(hashed_rows)

docs/consume.md shows the same without this package.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persia_core.checkpoint.layout import DENSE
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST, version_prefix
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer
from persia_core.handoff.reuse import reuse, serving_parts
from persia_core.handoff.serving_model import ServingModel, load_model
from persia_core.handoff.serving_schema import SCHEMA_FILE, ServingSchema
from persia_core.handoff.transfer import StoredManifest, download_parts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A version in a local directory, every byte checked; `manifest_sha256` (hex) is of its manifest.

    `bytes` of its parts, of which `bytes_reused` lay here already, in this version or another.
    """

    version: str
    manifest: Manifest
    manifest_sha256: str
    directory: Path
    bytes: int
    bytes_reused: int

    def summary(self) -> dict[str, Any]:
        """For people and result files."""
        figures = {"bytes": self.bytes, "bytes_reused": self.bytes_reused}
        return {"version": self.version, "directory": str(self.directory), **figures}


@dataclass(frozen=True)
class PickedUp:
    """A verified, loaded model version; `manifest_sha256` (hex) is of its manifest's bytes."""

    version: str
    manifest: Manifest
    manifest_sha256: str
    model: ServingModel


def resolve(store: ObjectStore, model: str, alias: str = CHAMPION) -> Pointer:
    """What the alias names now. Raises Corrupt if there is none."""
    found = read_pointer(store, model, alias)
    if found is None:
        raise Corrupt(
            f"model {model} has no {alias} at {store.url}",
            "promote a version (`persia promote`), or correct the name of the model",
        )
    return found[0]


def fetch(store: ObjectStore, model: str, directory: Path, alias: str = CHAMPION) -> Fetched:
    """Bring the version that `alias` names to `directory/<version>`, every byte checked.

    May be repeated after a failure at any point: what is whole is not fetched again. Parts that a version
    in `directory` has too are linked, and where it is less to fetch, tables are made from an older version
    and deltas. Raises Corrupt naming what is missing or wrong: the alias, the manifest (also if it is
    not the one the alias was set to), a part.
    """
    pointer = resolve(store, model, alias)
    stored = read_version(store, model, pointer.version)
    if stored.sha256 != pointer.manifest_sha256:
        raise Corrupt(
            f"the manifest of {pointer.version} is not the one that {alias} was set to",
            "the manifest was replaced after promotion; promote a version that is intact",
        )
    return _fetch(store, model, pointer.version, stored, directory / pointer.version, cache=directory)


def pick_up(store: ObjectStore, model: str, directory: Path, alias: str = CHAMPION) -> PickedUp:
    """The version that `alias` names, in `directory/<version>`, fetched as `fetch` does, and loaded."""
    return _load(fetch(store, model, directory, alias))


def pick_up_version(store: ObjectStore, model: str, version: str, directory: Path) -> PickedUp:
    """That version in `directory`, fetched in full, every byte checked, loaded. Raises Corrupt as `fetch`."""
    return _load(_fetch(store, model, version, read_version(store, model, version), directory))


def load_verified(
    manifest: Manifest, directory: Path, load: Callable[[Path], ServingModel] = load_model
) -> ServingModel:
    """Load parts that were verified against `manifest`, by `load`. Only files that it lists are opened."""
    listed = {part.path for part in manifest.parts}
    _require_listed(listed, {SCHEMA_FILE}, directory)
    schema = ServingSchema.from_bytes((directory / SCHEMA_FILE).read_bytes(), str(directory / SCHEMA_FILE))
    _require_listed(listed, {DENSE, *schema.files}, directory)
    if schema.schema_fingerprint != manifest.schema_fingerprint:
        raise Corrupt(
            f"{directory / SCHEMA_FILE} is of another schema than its manifest", "publish the version again"
        )
    return load(directory)


def _require_listed(listed: set[str], needed: set[str], directory: Path) -> None:
    """A file that lies there from before, and is not listed, was not checked."""
    for name in sorted(needed - listed):
        raise Corrupt(f"{directory / MANIFEST} lists no {name}", "publish the version again")


def _fetch(
    store: ObjectStore,
    model: str,
    version: str,
    stored: StoredManifest,
    target: Path,
    cache: Path | None = None,
) -> Fetched:
    manifest = stored.manifest
    target.mkdir(parents=True, exist_ok=True)
    parts = serving_parts(manifest)
    whole = reuse(store, model, manifest, cache, target) if cache is not None else set()
    missing = {part.path for part in parts} - whole
    download_parts(store, version_prefix(model, version), manifest, target, only=missing)
    data = manifest.to_bytes()
    if not (target / MANIFEST).is_file() or (target / MANIFEST).read_bytes() != data:
        (target / MANIFEST).write_bytes(data)  # last: what has one can be reused
    reused = sum(part.size for part in parts if part.path in whole)
    size = sum(part.size for part in parts)
    logger.info("%s is whole in %s: %d bytes, %d of them were here", version, target, size, reused)
    return Fetched(version, manifest, stored.sha256, target, size, reused)


def _load(fetched: Fetched) -> PickedUp:
    model = load_verified(fetched.manifest, fetched.directory)
    return PickedUp(fetched.version, fetched.manifest, fetched.manifest_sha256, model)
