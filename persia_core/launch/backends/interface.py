"""What every back end offers: a job has a name, and is started, looked at and ended by that name."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from persia_core.launch.job_directory import JobDirectory, JobSpec


class Phase(StrEnum):
    ABSENT = "absent"  # never submitted, or forgotten
    PENDING = "pending"  # waits for resources
    RUNNING = "running"
    ENDED = "ended"  # with an exit code
    LOST = "lost"  # gone without an exit code: the host died, or the scheduler ended it


@dataclass(frozen=True)
class JobStatus:
    """`exit_code` is there in phase ENDED only; `note` is what the scheduler says, for people."""

    phase: Phase
    exit_code: int | None = None
    note: str = ""

    @property
    def active(self) -> bool:
        return self.phase in (Phase.PENDING, Phase.RUNNING)


class BackEndClient(Protocol):
    """All calls may be repeated. Each raises EnvironmentProblem when its program is missing or fails."""

    remote: bool  # the job needs no process on the worker

    def submit(self, job: JobDirectory, spec: JobSpec, environment: Mapping[str, str]) -> str:
        """Start the job, unless one of that name is under way or has succeeded. Says what was done.

        `environment` holds credentials: it must not reach arguments or files that others read.
        """
        ...

    def status(self, job: JobDirectory) -> JobStatus:
        """How it is now."""
        ...

    def abandon(self, job: JobDirectory) -> None:
        """Nobody watches the job any more: end it, unless it is submitted again soon."""
        ...

    def cancel(self, job: JobDirectory) -> None:
        """End the job and every process of it; ending nothing is no error."""
        ...
