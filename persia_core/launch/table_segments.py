"""Where a run's embedding servers keep their tables for a restarted job, and who removes them when.

With `checkpoint.warm_restart` each server keeps a segment of its tables in a directory of the run: see
docs/formats/table_segment.md. It outlives the job that fails, and goes when the run has come to its end.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from persia_core.checkpoint.layout import server_of_part
from persia_core.checkpoint.table_segment import segment_file, segment_has
from persia_core.config import ModelConfig
from persia_core.errors import EnvironmentProblem
from persia_core.launch.directory_lock import Locked, is_locked, locked
from persia_core.launch.segments import ROOT

_RUN = "run"  # a file beside the segments, with the path of the run directory


class TableSegments:
    """The segments of one run."""

    def __init__(self, config: ModelConfig, run_dir: Path) -> None:
        root = config.checkpoint.warm_restart
        self._root = ROOT if root is None else Path(root)
        self._wanted = root is not None
        self._run_dir = run_dir
        self._cluster = config.cluster
        self._own = self._root / f"{_prefix()}{hashlib.sha256(str(run_dir).encode()).hexdigest()[:16]}"

    @property
    def directory(self) -> Path | None:
        """Where servers are to keep their segments; None if they are to keep none."""
        return self._own if self._wanted else None

    def have(self, part: Path) -> bool:
        """Whether the server that `part` was written by can take its rows from a segment instead."""
        server = server_of_part(part.name)
        if self.directory is None or server is None:
            return False
        segment = self.directory / segment_file(server)
        return segment_has(segment, part, self._cluster.servers, self._cluster.server_threads)

    def prepare(self, keep: bool) -> None:
        """A directory for the servers of a job that is about to start; empty unless `keep`.

        Removes what runs have left that are no more. Raises EnvironmentProblem where it cannot be written.
        """
        for directory in _all(self._root):
            run_dir = _run_of(directory)
            if run_dir is not None and not run_dir.exists():
                shutil.rmtree(directory, ignore_errors=True)
        if self.directory is None or not keep:
            self.remove()
        if self.directory is None:
            return
        try:
            self._own.mkdir(mode=0o700, exist_ok=True)
            if self._own.is_symlink() or self._own.stat().st_uid != os.getuid():
                raise PermissionError(f"{self._own} belongs to somebody else")
            (self._own / _RUN).write_text(str(self._run_dir))
        except OSError as error:
            raise EnvironmentProblem(
                f"checkpoint.warm_restart: the tables cannot be kept in {self._root}: {error}",
                "name a directory in memory that this user can write, such as /dev/shm; or set it to null",
            ) from error

    def remove(self) -> None:
        """Remove them: the run has come to its end, or begins anew."""
        shutil.rmtree(self._own, ignore_errors=True)


def abandoned_tables(work: Path, roots: set[Path]) -> Iterator[Path]:
    """Directories of segments in shared memory and `roots` whose run no job trains.

    Only of runs whose directories are under `work`, or are no more.
    """
    for directory in sorted(each for root in {ROOT, *roots} for each in _all(root)):
        run_dir = _run_of(directory)
        if run_dir is None or not (run_dir.is_relative_to(work.absolute()) or not run_dir.exists()):
            continue
        if not is_locked(run_dir):
            yield directory


def remove_abandoned_tables(directory: Path) -> bool:
    """Remove it unless a job has begun to train its run since; True if it is gone."""
    run_dir = _run_of(directory)
    nobody_else = locked(run_dir) if run_dir is not None and run_dir.exists() else contextlib.nullcontext()
    with contextlib.suppress(Locked), nobody_else:
        shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _prefix() -> str:
    return f"persia-tables-{os.getuid()}-"


def _all(root: Path) -> list[Path]:
    return sorted(path for path in root.glob(f"{_prefix()}*") if path.is_dir() and not path.is_symlink())


def _run_of(directory: Path) -> Path | None:
    """None in the moment before a job has written it down."""
    try:
        return Path((directory / _RUN).read_text())
    except (OSError, ValueError):
        return None
