"""Watching a job by its directory: what is new in its output, and whether it still runs."""

import time
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from persia_core.config.back_end import BackEnd
from persia_core.config.home import project_dir
from persia_core.launch.backends.choose import client_of
from persia_core.launch.backends.interface import BackEndClient, JobStatus, Phase
from persia_core.launch.job_directory import JobDirectory

QUIET_S = 10.0  # without a line from the job, until we say one
MAX_BYTES = 1 << 20  # of output in one look
# A shared file system may show the exit code a little after the scheduler says that the job ended.
LOST_LOOKS = 3


class Follower:
    """Reads the output of a job from byte `offset` on."""

    def __init__(self, client: BackEndClient, job: JobDirectory, offset: int = 0) -> None:
        self.client = client
        self.job = job
        self.offset = offset
        self.status = JobStatus(Phase.PENDING)
        self._begun = self._said = time.monotonic()
        self._lost = 0
        self._rest = b""

    @staticmethod
    def of(back_end: dict[str, Any], work: Path, job: str, offset: int = 0) -> "Follower":
        """`back_end` is the section of the configuration, as JSON."""
        section: BackEnd = TypeAdapter(BackEnd).validate_python(back_end)
        return Follower(client_of(section, project_dir()), JobDirectory(work, job), offset)

    def look(self) -> tuple[list[str], bool]:
        """New whole lines of output, or one line about the job if it was quiet; and whether it still runs."""
        status = self.client.status(self.job)  # before its output, or the last lines would be missed
        if status.phase in (Phase.LOST, Phase.ABSENT) and self.client.remote:
            self._lost += 1
            active = self._lost < LOST_LOOKS
        else:
            self._lost = 0
            active = status.active
        self.status = status
        lines = self._new_lines(everything=not active)
        now = time.monotonic()
        if lines:
            self._said = now
        elif active and now - self._said >= QUIET_S:
            self._said = now
            note = f" ({status.note})" if status.note else ""
            lines = [f"job {self.job.name}: {status.phase} for {now - self._begun:.0f} s{note}"]
        return lines, active

    def cancel(self) -> None:
        self.client.cancel(self.job)

    def skip_to_end(self, keep: int) -> list[str]:
        """The last `keep` lines that are there already; what comes later is read by `look`."""
        lines: list[str] = []
        while new := self._new_lines(everything=False):
            lines = [*lines, *new][-keep:]
        return lines

    def _new_lines(self, *, everything: bool) -> list[str]:
        lines: list[str] = []
        while True:
            data = self._read()
            text, newline, self._rest = (self._rest + data).rpartition(b"\n")
            if newline:
                lines += text.decode(errors="replace").split("\n")
            if not everything or not data:
                break
        if everything and self._rest:
            lines.append(self._rest.decode(errors="replace"))
            self._rest = b""
        return lines

    def _read(self) -> bytes:
        try:
            with self.job.output.open("rb") as file:
                file.seek(self.offset)
                data = file.read(MAX_BYTES)
        except FileNotFoundError:
            return b""
        self.offset += len(data)
        return data
