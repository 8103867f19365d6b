"""The files of a run directory that tell of each rank, and the command that has them written."""

import shutil
import sys
from collections import deque
from pathlib import Path
from signal import Signals

from pydantic import BaseModel, ConfigDict

from persia_core.launch import rank_parent

PROCESSES = "processes"  # <rank>.json: how it goes with its process
LOGS = "logs"  # <role>-<n>.log: all that it said
HEARTBEATS = "heartbeats"  # <rank>: a number that the rank counts up as long as it runs
LOG_LINES = 50  # that are shown of a rank that failed


class RankProcess(BaseModel):
    """What the parent of a rank knows of it.

    `status` is its exit code, or minus the signal that ended it; None while it runs. `ended_at` is of this
    host's monotonic clock, in seconds. `asked`: it was told to end before it did.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int
    role: str
    host: str
    pid: int
    heartbeat: Path
    asked: bool = False
    status: int | None = None
    ended_at: float | None = None

    @property
    def name(self) -> str:
        return f"{self.role} (rank {self.rank}) on {self.host}"

    def how_it_ended(self) -> str:
        """`ended with exit code 3`, or `was ended by signal 9 (SIGKILL)`."""
        if self.status is None:
            return "has not ended"
        if self.status >= 0:
            return f"ended with exit code {self.status}"
        try:
            return f"was ended by signal {-self.status} ({Signals(-self.status).name})"
        except ValueError:  # a real-time signal
            return f"was ended by signal {-self.status}"


def prepare(run_dir: Path) -> None:
    """Make the directories, without what an earlier job has left there."""
    for name in (PROCESSES, LOGS, HEARTBEATS):
        shutil.rmtree(run_dir / name, ignore_errors=True)
        (run_dir / name).mkdir(parents=True)


def heartbeat_directory(run_dir: Path, memory: Path | None) -> Path:
    """Where the ranks of a job beat: in `memory`, a directory of this host that is no disk, if there is one.

    Whoever writes to a disk may have to wait for it, for seconds when it is busy.
    """
    directory = (memory or run_dir) / HEARTBEATS
    directory.mkdir(exist_ok=True)
    return directory


def with_parent(run_dir: Path, heartbeats: Path, role: str, first_rank: int, program: list[str]) -> list[str]:
    """The command of the ranks from `first_rank` on, which run `program` as `role` (without number)."""
    directories = [str(directory) for directory in (run_dir / PROCESSES, run_dir / LOGS, heartbeats)]
    script = str(Path(rank_parent.__file__))
    return [sys.executable, "-I", "-S", script, *directories, role, str(first_rank), *program]


def rank_processes(run_dir: Path) -> list[RankProcess]:
    """The ranks that have been started, by rank."""
    found = [
        RankProcess.model_validate_json(path.read_bytes()) for path in (run_dir / PROCESSES).glob("*.json")
    ]
    return sorted(found, key=lambda process: process.rank)


def log_of(run_dir: Path, role: str) -> Path:
    """The log of the rank that is `role`, with its number: embedding server 0."""
    return run_dir / LOGS / f"{role.replace(' ', '-')}.log"


def last_lines(run_dir: Path, role: str) -> list[str]:
    """The last LOG_LINES lines that the rank said; none if it said nothing."""
    try:
        with log_of(run_dir, role).open(errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, LOG_LINES)]
    except FileNotFoundError:
        return []
