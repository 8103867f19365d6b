"""The ranks of a training run, by the files in its run directory."""

import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from persia_core.launch import log_end
from persia_core.launch.rank_process import LOGS, RankProcess, log_of, rank_processes

MAX_BYTES = 4 << 20  # of a log that are shown


@dataclass(frozen=True)
class RankLog:
    """The log of a rank. `process` is None if nothing, or nothing readable, tells how the rank is."""

    name: str
    bytes: int
    process: RankProcess | None

    @property
    def role(self) -> str:
        return self.process.role if self.process else self.name.removesuffix(".log")


def rank_logs(run_dir: Path) -> list[RankLog]:
    """Those in the directory, by rank; those of no known rank come last."""
    by_log = {log_of(run_dir, process.role).name: process for process in _processes(run_dir)}
    files = [path for path in (run_dir / LOGS).glob("*.log") if stat.S_ISREG(path.lstat().st_mode)]
    found = [RankLog(path.name, path.lstat().st_size, by_log.get(path.name)) for path in files]
    return sorted(
        found, key=lambda log: (log.process is None, log.process.rank if log.process else 0, log.name)
    )


def end_of_log(run_dir: Path, name: str) -> bytes:
    """The last MAX_BYTES of a log, from the beginning of a line. FileNotFoundError if there is none."""
    if name not in {log.name for log in rank_logs(run_dir)}:
        raise FileNotFoundError(name)
    return log_end.end_of_log(run_dir / LOGS / name, MAX_BYTES)


def _processes(run_dir: Path) -> list[RankProcess]:
    try:
        return rank_processes(run_dir)
    except ValidationError:  # the page then shows the logs, and that nothing tells how the ranks are
        return []
