"""What the ranks of a job are told, and what they leave behind: JSON files in the run directory."""

import os
import socket
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from persia_core.config import ModelConfig
from persia_core.exit_codes import ExitCode

JOB_FILE = "job.json"
RENDEZVOUS = "rendezvous"
RANKS = "ranks"
PARENTS = "parents"  # in the directory of working files: checkpoints that jobs of this host start from


_RECORD_BYTES = 4096


def job_id(model: str, ds: str, run: str) -> str:
    """The name of the job of a training run: the same one however often it is submitted."""
    return f"{model}-{ds}-{run}"


class Job(BaseModel):
    """One MPI job: its ranks are what persia_core.launch.roles says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    config: dict[str, Any]
    ds: str
    run_dir: Path
    partition_dir: Path  # with the verified parts of the hashed partition and its manifest
    parent_dir: Path | None  # with the verified parts of the checkpoint to start from; not beside cut_dir
    parent: str | None  # where that checkpoint is stored; null in a cold start
    hashed_digest: str
    schema_change: dict[str, Any] | None = None  # of tables, between that checkpoint and the configuration
    cold_start_dense: bool = False  # take rows and step of the parent, and begin with a new dense network
    cut_dir: Path | None = None  # with the verified parts of the cut of this run to go on from

    def resolved(self) -> ModelConfig:
        return ModelConfig.model_validate(self.config)


class RankRecord(BaseModel):
    """A Python rank's word about itself: written at its start, completed when it fails.

    `failed_at` is of this host's monotonic clock, in seconds.
    """

    rank: int
    role: str
    host: str
    pid: int
    exit_code: int | None = None
    failed_at: float | None = None
    what: str | None = None
    remedy: str | None = None

    @staticmethod
    def begin(run_dir: Path, rank: int, role: str) -> "RankRecord":
        record = RankRecord(rank=rank, role=role, host=socket.gethostname(), pid=os.getpid())
        record.write(run_dir)
        return record

    def fail(self, run_dir: Path, code: ExitCode, what: str, remedy: str) -> None:
        facts = {"exit_code": int(code), "failed_at": time.monotonic(), "what": what, "remedy": remedy}
        self.model_copy(update=facts).write(run_dir)

    def write(self, run_dir: Path) -> None:
        directory = run_dir / RANKS
        directory.mkdir(parents=True, exist_ok=True)
        # Blanks at the end, so that there is space for the last word when the disk is full.
        text = self.model_dump_json().ljust(_RECORD_BYTES)
        temporary, path = directory / f".{self.rank}.tmp", directory / f"{self.rank}.json"
        try:
            temporary.write_text(text)
            temporary.rename(path)
        except OSError:
            with path.open("r+") as file:
                file.write(text)


def rank_records(run_dir: Path) -> list[RankRecord]:
    """The records of all ranks that have started, by rank."""
    found = [RankRecord.model_validate_json(p.read_text()) for p in (run_dir / RANKS).glob("*.json")]
    return sorted(found, key=lambda record: record.rank)
