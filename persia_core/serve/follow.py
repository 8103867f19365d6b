"""Following the champion: a newer one is fetched, verified and loaded beside the one in use, then swapped."""

import logging
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, DataInvalid, PersiaError
from persia_core.handoff.consume import load_verified
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer
from persia_core.handoff.serving_model import ServingModel
from persia_core.handoff.transfer import download_parts
from persia_core.serve.mapped import load_mapped, mapped_tables
from persia_core.serve.metrics import ServeMetrics

log = logging.getLogger(__name__)

KEPT_VERSIONS = 2  # directories: of the model in use, and of the one before it


@dataclass(frozen=True)
class InUse:
    """The model that answers, and since when (Unix seconds)."""

    version: str
    ds: str
    model: ServingModel
    since: float


class Follower:
    """Holds the model in use. Requests take it once and keep it to their end, so a swap drops none."""

    def __init__(
        self, config: ModelConfig, store: ObjectStore, directory: Path, every_s: float, metrics: ServeMetrics
    ) -> None:
        self._config = config
        self._store = store
        self._directory = directory / config.name
        self._every_s = every_s
        self._metrics = metrics
        self._in_use: InUse | None = None
        self._refused: tuple[Pointer, str] | None = None
        self._error: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-champion", daemon=True)

    @property
    def in_use(self) -> InUse | None:
        """None until the first champion is loaded."""
        return self._in_use

    @property
    def error(self) -> str | None:
        """Why the champion is not the model in use; None if it is."""
        return self._error

    def start(self) -> None:
        """Load the champion, then follow it in a thread. Raises what keeps the first one from loading."""
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def refresh(self) -> None:
        """Read the pointer; take another champion into use. Raises PersiaError: the model in use stays."""
        found = read_pointer(self._store, self._config.name, CHAMPION)
        self._metrics.pointer_age.set(time.time())
        if found is None:
            raise Corrupt(
                f"model {self._config.name} has no {CHAMPION} at {self._store.url}",
                "promote a version (`persia promote`), or correct the name of the model",
            )
        pointer, _ = found
        current = self._in_use
        if current is not None and current.version == pointer.version:
            self._refused = self._error = None
            return
        if self._refused is not None and self._refused[0] == pointer:
            return  # a champion that cannot be used is not fetched again and again
        try:
            model = self._load(pointer)
        except (Corrupt, DataInvalid) as error:
            self._refused = (pointer, str(error))
            self._metrics.refusals.inc()
            raise
        self._in_use = InUse(pointer.version, pointer.ds, model, time.time())
        self._refused = self._error = None
        self._metrics.swaps.inc()
        self._metrics.version.clear()
        self._metrics.version.labels(self._config.name, pointer.version).set(1)
        log.info("champion %s is in use", pointer.version)
        self._forget_old()

    def _load(self, pointer: Pointer) -> ServingModel:
        stored = read_version(self._store, self._config.name, pointer.version)
        if stored.sha256 != pointer.manifest_sha256:
            raise Corrupt(
                f"the manifest of {pointer.version} is not the one that {CHAMPION} was set to",
                "the manifest was replaced after promotion; promote a version that is intact",
            )
        if stored.manifest.schema_fingerprint != self._config.schema_fingerprint():
            raise DataInvalid(
                f"champion {pointer.version} reads other features than the configuration names",
                "start the server with the configuration that it was trained with",
            )
        directory = self._directory / pointer.version
        prefix = version_prefix(self._config.name, pointer.version)
        sources = {part.path: part.sha256 for part in stored.manifest.parts}
        mapped = mapped_tables(directory, sources)
        download_parts(self._store, prefix, stored.manifest, directory, only=sources.keys() - mapped.keys())
        model = load_verified(stored.manifest, directory, lambda path: load_mapped(path, sources, mapped))
        if model.runtime == "torch":
            import torch

            torch.set_num_threads(1)  # requests run side by side; a batch is too small to be split
        model.prepare()
        return model

    def _follow(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.refresh()
            except PersiaError as error:
                self._error = str(error)
                log.error("the champion cannot be taken into use, the model in use stays: %s", error)
            except Exception as error:
                self._error = f"{type(error).__name__}: {error}"
                log.exception("the champion cannot be taken into use, the model in use stays")

    def _forget_old(self) -> None:
        """Keeps the newest directories; a model that requests still hold keeps its mapped files."""
        if self._in_use is None:
            return
        used = self._in_use.version
        others = (path for path in self._directory.iterdir() if path.is_dir() and path.name != used)
        folders = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[KEPT_VERSIONS - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)
