"""Picking a model up: resolve the pointer, fetch, verify, load. The reference for serving teams.

model = pick_up(open_store(config.storage), "movielens_dlrm", Path("models")).model
probabilities = model.predict(hashed_rows)
"""

from dataclasses import dataclass
from pathlib import Path

from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST, version_prefix
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, read_pointer
from persia_core.handoff.serving_model import ServingModel, load_model
from persia_core.handoff.serving_schema import SCHEMA_FILE
from persia_core.handoff.transfer import download_parts


@dataclass(frozen=True)
class PickedUp:
    """A verified, loaded model version; `manifest_sha256` (hex) is of its manifest's bytes."""

    version: str
    manifest: Manifest
    manifest_sha256: str
    model: ServingModel


def pick_up(store: ObjectStore, model: str, directory: Path, alias: str = CHAMPION) -> PickedUp:
    """The version that `alias` names, in `directory/<version>`, every byte checked, loaded.

    Files that are there and whole are not fetched again. Raises Corrupt naming what is missing or
    wrong: the alias, the manifest (also if it is not the one the alias was set to), a part.
    """
    found = read_pointer(store, model, alias)
    if found is None:
        raise Corrupt(
            f"model {model} has no {alias} at {store.url}",
            "promote a version (`persia promote`), or correct the name of the model",
        )
    pointer, _ = found
    picked = pick_up_version(store, model, pointer.version, directory / pointer.version)
    if picked.manifest_sha256 != pointer.manifest_sha256:
        raise Corrupt(
            f"the manifest of {pointer.version} is not the one that {alias} was set to",
            "the manifest was replaced after promotion; promote a version that is intact",
        )
    return picked


def pick_up_version(store: ObjectStore, model: str, version: str, directory: Path) -> PickedUp:
    """That version in `directory`, every byte checked, loaded. Raises Corrupt as `pick_up`."""
    stored = read_version(store, model, version)
    download_parts(store, version_prefix(model, version), stored.manifest, directory)
    loaded = load_verified(stored.manifest, directory)
    return PickedUp(version, stored.manifest, stored.sha256, loaded)


def load_verified(manifest: Manifest, directory: Path) -> ServingModel:
    """Load parts that were verified against `manifest`. Only files that it lists are opened."""
    listed = {part.path for part in manifest.parts}
    if SCHEMA_FILE not in listed:
        raise Corrupt(f"{directory / MANIFEST} lists no {SCHEMA_FILE}", "publish the version again")
    model = load_model(directory)
    if model.schema.schema_fingerprint != manifest.schema_fingerprint:
        raise Corrupt(
            f"{directory / SCHEMA_FILE} is of another schema than its manifest", "publish the version again"
        )
    return model
