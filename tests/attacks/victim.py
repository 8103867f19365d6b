"""A store with a champion, and what an attacker who can write there does to it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig
from persia_core.handoff.layout import MANIFEST, alias_key, verdict_key, version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import part_of
from persia_core.handoff.pointer import CHAMPION
from persia_core.handoff.promote import promote
from persia_core.handoff.publish import publish
from tests.support.runs import make_day, make_run, small_config
from tests.support.versions import MODEL, verdict_on

DS = "2026-11-02"


def build(root: Path) -> None:
    """Publish and promote a version into the local store `root`/store."""
    config, store = small_config(), LocalStore(root / "store")
    day = make_day(config, store, DS, rows=60)
    result = publish(config, store, DS, make_run(config, day, root / "run"))
    passed = verdict_on(result.version, result.manifest_sha256, passed=True)
    store.put(verdict_key(MODEL, result.version), passed.to_bytes())
    promote(config, store, result.version)


@dataclass
class Victim:
    """A copy of that store, to be attacked; `cache` is where a consumer keeps its models."""

    root: Path

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.root / "store")

    @property
    def config(self) -> ModelConfig:
        return small_config()

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def pointer(self) -> Path:
        return self.root / "store" / alias_key(MODEL, CHAMPION)

    @property
    def version(self) -> str:
        return str(json.loads(self.pointer.read_bytes())["version"])

    @property
    def directory(self) -> Path:
        return self.root / "store" / version_prefix(MODEL, self.version)

    def parts(self) -> list[Path]:
        return sorted(p for p in self.directory.rglob("*") if p.is_file() and p.name != MANIFEST)

    def document(self) -> Any:
        return json.loads((self.directory / MANIFEST).read_bytes())

    def plant(self, document: Any) -> None:
        """Put a manifest with the digest that its parts have, and let name and pointer agree with it.

        What an attacker can do who may write every object: only the rules stand against it.
        """
        lines = [
            f"{part['path']}\t{part['size']}\t{part['sha256']}\n"
            for part in sorted(document["parts"], key=lambda part: str(part["path"]))
        ]
        document["digest"] = hashlib.sha256("".join(lines).encode()).hexdigest()
        self.plant_bytes(json.dumps(document).encode(), document["digest"])

    def plant_bytes(self, manifest: bytes, digest: str) -> None:
        """The same with the manifest's bytes as they are."""
        version = f"{DS}-{digest[:12]}"
        directory = self.root / "store" / version_prefix(MODEL, version)
        if directory != self.directory:
            shutil.move(self.directory, directory)
        (directory / MANIFEST).write_bytes(manifest)
        pointer = json.loads(self.pointer.read_bytes())
        pointer |= {"version": version, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
        self.pointer.write_bytes(json.dumps(pointer).encode())

    def seal(self) -> None:
        """List the parts as they lie there now, as whoever changed them would."""
        document = self.document()
        rows = {part["path"]: part["rows"] for part in document["parts"]}
        document["parts"] = [
            part_of(self.directory, path, rows.get(str(path.relative_to(self.directory)))).model_dump()
            for path in self.parts()
        ]
        self.plant(document)

    def edit(self, name: str, change: Callable[[Any], Any]) -> None:
        """Change a JSON part in place."""
        path = self.directory / name
        path.write_bytes(json.dumps(change(json.loads(path.read_bytes()))).encode())
