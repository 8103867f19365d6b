"""Storing the cuts of a run while its job goes on."""

import logging
import os
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from persia_core.checkpoint.cut_chain import chain_directories
from persia_core.checkpoint.cuts import Cut, cuts_of
from persia_core.checkpoint.layout import CUTS
from persia_core.checkpoint.stored_cuts import StoredCuts
from persia_core.errors import PersiaError

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_HELD = ".upload"  # hard links to the parts on their way, which the job may remove meanwhile


class CutUpload:
    """A context around a job: a thread of the launcher stores the newest cut, one at a time.

    A cut that is overtaken by a newer one meanwhile is left out, unless that one follows it. That one cannot
    be stored is no reason to end the job: it is counted, and the next one is tried. When the job fails, the
    newest one is stored before that is told.
    """

    def __init__(self, stored: StoredCuts, run_dir: Path, keep: int) -> None:
        self._stored = stored
        self._run_dir = run_dir
        self._keep = keep
        self._last = max(stored.steps(), default=0)
        self._stop = threading.Event()
        # A daemon: a launcher that is told to end does not wait for the store.
        self._thread = threading.Thread(target=self._run, name="upload-cuts", daemon=True)
        self.counts = {"stored": 0, "not_stored": 0}  # for metrics.json

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if error is not None and not isinstance(error, PersiaError):
            return
        self._thread.join()
        if error is not None:
            self._store_newest()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            self._store_newest()

    def _store_newest(self) -> None:
        for cut in cuts_of(self._run_dir)[:1]:
            if cut.step > self._last:
                self._last = cut.step
                self._store(cut)

    def _store(self, cut: Cut) -> None:
        held = self._run_dir / CUTS / _HELD
        try:
            shutil.rmtree(held, ignore_errors=True)
            for directory in chain_directories(cut.directory):
                shutil.copytree(directory, held / directory.name, copy_function=os.link)
            self._stored.put(Cut(cut.step, held / cut.directory.name))
            self._stored.prune(self._keep)
        except (PersiaError, OSError, shutil.Error) as error:
            self.counts["not_stored"] += 1
            log.warning("the cut at step %d could not be stored: %s", cut.step, error)
        else:
            self.counts["stored"] += 1
        finally:
            shutil.rmtree(held, ignore_errors=True)
