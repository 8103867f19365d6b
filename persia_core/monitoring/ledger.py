"""What was counted so far, on disk, so that counters go on from one process to the next.

A stage is a process of its own. Counters that begin at 0 in each of them would be useless to Prometheus: so
each instance (a host, usually) keeps a file per model and stage in the text format, to which every end of the
stage adds.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from persia_core.monitoring.samples import Samples

log = logging.getLogger(__name__)

SUFFIX = ".prom"  # what the textfile collector of node_exporter looks for
LOCK_WITHIN_S = 10.0
_ASK_EVERY_S = 0.05


class Ledger:
    """The file of one instance, model and stage. `changing` is for one process at a time."""

    def __init__(self, directory: Path, model: str, stage: str) -> None:
        self.path = directory / file_name(model, stage)
        self._model = model

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the file's lock. Raises TimeoutError when another process keeps it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as file:
            deadline = time.monotonic() + LOCK_WITHIN_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"another process keeps {file.name}") from None
                    time.sleep(_ASK_EVERY_S)
            yield

    def read(self) -> Samples:
        """What was counted; nothing if there is no file, or one that cannot be read, which is put aside."""
        try:
            return Samples.from_text(self._model, self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Samples(self._model)
        except ValueError as error:
            aside = self.path.with_suffix(".damaged")
            self.path.replace(aside)
            log.warning("counting begins anew: %s cannot be read (%s); it is %s now", self.path, error, aside)
            return Samples(self._model)

    def write(self, samples: Samples) -> None:
        """Replace the file, complete or not at all."""
        write_whole(self.path, samples.to_text())


def file_name(model: str, stage: str) -> str:
    """Of a ledger, and of its copy for the textfile collector."""
    return f"persia-{model}-{stage}{SUFFIX}"


def write_whole(path: Path, content: bytes) -> None:
    """Replace `path` by a rename, so that a reader sees the old content or the new one. All may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as file:
            file.write(content)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
