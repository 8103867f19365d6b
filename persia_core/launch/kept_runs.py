"""What stays of a published run on this host for people to look at: logs by rank, curves, metrics lines.

Everything else in its run directory is in the store. What stays has a time limit of its own, in the file
KEPT, because `persia clean` knows no configuration; and a limit to its size, over all runs of the model.
"""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from persia_core.checkpoint.layout import METRICS_LINES, TENSORBOARD
from persia_core.config.retention import Retention
from persia_core.launch.directory_lock import LOCK, Locked, is_locked, locked
from persia_core.launch.job import JOB_FILE
from persia_core.launch.log_end import end_of_log
from persia_core.launch.rank_process import LOGS, PROCESSES

KEPT = "kept.json"
LOG_BYTES = 3 << 20  # of each rank's log, from its end; less than the page of it shows
_STAYS = (LOGS, PROCESSES, TENSORBOARD, METRICS_LINES)


class KeptRun(BaseModel):
    """The version that was published from a run, and for how long its files stay (both in UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    since: datetime
    until: datetime


def keep_files(run_dir: Path, version: str, retention: Retention) -> tuple[list[Path], list[Path]]:
    """Remove what nobody needs of a published run and of older ones of its model: (removed, kept) paths.

    A run that a job works on at this moment is left as it is.
    """
    if not run_dir.exists():
        return [], []
    if retention.run_files_days == 0:
        return ([run_dir], []) if _remove(run_dir) else ([], [run_dir])
    try:
        with locked(run_dir):
            removed = _reduce(run_dir, version, retention.run_files_days)
    except Locked:
        return [], [run_dir]
    removed += _over_limit(run_dir.parents[1], retention.run_files_mib << 20)
    return removed, [run_dir] if run_dir.exists() else []


def expired_runs(work: Path, now: datetime) -> Iterator[Path]:
    """Run directories of published runs under `work` whose time is over, and on which nobody works."""
    for file in sorted(work.glob(f"*/ds=*/*/{KEPT}")):
        if is_expired(file.parent, now) and not is_locked(file.parent):
            yield file.parent


def is_expired(run_dir: Path, now: datetime) -> bool:
    """True if it holds files of a published run, and their time is over."""
    kept = _read(run_dir)
    return kept is not None and kept.until <= now


def _reduce(run_dir: Path, version: str, days: int) -> list[Path]:
    now = datetime.now(UTC)
    kept = KeptRun(version=version, since=now, until=now + timedelta(days=days))
    # First, so that what is left by whoever is killed here has an end. What makes it a job's goes last.
    temporary = run_dir / f".{KEPT}.tmp"
    temporary.write_text(kept.model_dump_json() + "\n", encoding="utf-8")
    temporary.replace(run_dir / KEPT)
    going = [path for path in run_dir.iterdir() if path.name not in (*_STAYS, KEPT, LOCK)]
    for path in sorted(going, key=lambda path: path.name == JOB_FILE):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for log in (run_dir / LOGS).glob("*.log"):
        if log.is_file() and not log.is_symlink() and log.stat().st_size > LOG_BYTES:
            shorter = log.with_name(f".{log.name}.tmp")
            shorter.write_bytes(end_of_log(log, LOG_BYTES))
            shorter.replace(log)
    return going


def _over_limit(of_model: Path, limit: int) -> list[Path]:
    """Remove the runs kept longest until those of the model take at most `limit` bytes."""
    directories = [file.parent for file in of_model.glob(f"ds=*/*/{KEPT}")]
    found = [(kept.since, directory) for directory in directories if (kept := _read(directory))]
    removed, total = [], 0
    for _, run_dir in sorted(found, reverse=True):
        total += directory_bytes(run_dir)
        if total > limit and _remove(run_dir):
            removed.append(run_dir)
    return removed


def _remove(run_dir: Path) -> bool:
    with contextlib.suppress(Locked), locked(run_dir):
        shutil.rmtree(run_dir, ignore_errors=True)
    return not run_dir.exists()


def _read(run_dir: Path) -> KeptRun | None:
    try:
        return KeptRun.model_validate_json((run_dir / KEPT).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def directory_bytes(directory: Path) -> int:
    """What the files below take; those that go meanwhile count nothing."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_size
    return total
