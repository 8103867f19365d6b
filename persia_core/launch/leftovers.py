"""What jobs that were killed have left on this host."""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from persia_core.checkpoint.layout import CHECKPOINT, METRICS
from persia_core.handoff.layout import MANIFEST
from persia_core.launch import segments
from persia_core.launch.directory_lock import Locked, is_locked, locked
from persia_core.launch.ending import processes_of
from persia_core.launch.job import JOB_FILE, PARENTS, Job
from persia_core.launch.kept_runs import directory_bytes, expired_runs, is_expired
from persia_core.launch.table_segments import abandoned_tables, remove_abandoned_tables


class Leftover(BaseModel):
    """A directory that nobody uses. `bytes` is what its files take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    path: Path
    bytes: int


SEGMENTS = "shared memory and session of a dead job"
RUN = "run directory of a dead job"
PARENT = "parent checkpoint that was being fetched or used"
KEPT_TOO_LONG = "logs and curves of a published run whose time is over"
TABLES = "tables in memory of a run that no job trains"


def find_leftovers(work: Path) -> list[Leftover]:
    """All of this user's segments, and what lies under `work`; nothing that a living job uses.

    A run directory is left over if its training has not come to an end and nobody trains on: a finished one
    is waiting to be published. What is kept of one that was published is left over when its time is over.
    """
    found = [(SEGMENTS, path) for path in segments.abandoned()]
    found += [(RUN, path) for path in _dead_runs(work)]
    found += [(KEPT_TOO_LONG, path) for path in expired_runs(work, datetime.now(UTC))]
    found += [(PARENT, path) for path in _directories(work / PARENTS) if not is_locked(path)]
    found += [(TABLES, path) for path in abandoned_tables(work, _table_roots(work))]
    return [Leftover(kind=kind, path=path, bytes=directory_bytes(path)) for kind, path in found]


def remove(leftover: Leftover) -> bool:
    """Remove it, unless somebody has begun to use it since; True if it is gone."""
    if leftover.kind == SEGMENTS:
        return segments.remove_if_abandoned(leftover.path)
    if leftover.kind == TABLES:
        return remove_abandoned_tables(leftover.path)
    with contextlib.suppress(Locked), locked(leftover.path):
        if leftover.kind == RUN and not _is_dead(leftover.path):
            return False
        if leftover.kind == KEPT_TOO_LONG and not is_expired(leftover.path, datetime.now(UTC)):
            return False
        shutil.rmtree(leftover.path)
        return True
    return False


def _table_roots(work: Path) -> set[Path]:
    """Where configurations of runs that are still there have tables kept."""
    roots = set()
    for job_file in work.glob(f"*/ds=*/*/{JOB_FILE}"):
        with contextlib.suppress(FileNotFoundError, ValidationError):
            root = Job.model_validate_json(job_file.read_bytes()).config["checkpoint"].get("warm_restart")
            roots |= {Path(root)} if root is not None else set()
    return roots


def _dead_runs(work: Path) -> Iterator[Path]:
    for job_file in sorted(work.glob(f"*/ds=*/*/{JOB_FILE}")):
        if not is_locked(job_file.parent) and _is_dead(job_file.parent):
            yield job_file.parent


def _is_dead(run_dir: Path) -> bool:
    finished = (run_dir / CHECKPOINT / MANIFEST).exists() and (run_dir / METRICS).exists()
    return not finished and not any(processes_of(run_dir))


def _directories(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*") if path.is_dir() and not path.is_symlink())
