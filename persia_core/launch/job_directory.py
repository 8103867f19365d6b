"""The files by which a job, those who watch it and those who end it know of each other.

A job is known by its name alone: whoever asks for the same name finds the same directory. `spec.json` says
what to run and is written before the job starts. `exit.json` appears when it has ended, and never before.
Whoever runs the job on this host holds a lock on `lock` from before it starts until its last process is gone.
"""

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persia_core.handoff.layout import check_name

JOBS = "jobs"
KEPT_OUTPUTS = 5


@dataclass(frozen=True)
class JobSpec:
    """`arguments` are of the Python interpreter of the host that runs the job, in the directory `cwd`."""

    arguments: tuple[str, ...]
    cwd: str


@dataclass(frozen=True)
class JobDirectory:
    """The directory of the job `name` under the working directory `work`."""

    work: Path
    name: str

    def __post_init__(self) -> None:
        check_name("job", self.name)

    @property
    def path(self) -> Path:
        return self.work / JOBS / self.name

    @property
    def output(self) -> Path:
        """Standard output and error of the job, as they come."""
        return self.path / "output.log"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    def write_spec(self, spec: JobSpec) -> None:
        self._write("spec.json", {"arguments": list(spec.arguments), "cwd": spec.cwd})

    def spec(self) -> JobSpec | None:
        document = self._read("spec.json")
        return None if document is None else JobSpec(tuple(document["arguments"]), document["cwd"])

    def write_exit(self, code: int) -> None:
        self._write("exit.json", {"exit_code": code})

    def exit_code(self) -> int | None:
        """None while the job has not ended, or was lost."""
        document = self._read("exit.json")
        return None if document is None else int(document["exit_code"])

    def result(self) -> Any:
        return self._read(self.result_file.name)

    def prepare(self, spec: JobSpec) -> None:
        """Make room for a run of the job: what an earlier one left goes, its last outputs stay numbered."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in ("exit.json", "cancel", "abandoned", self.result_file.name):
            (self.path / name).unlink(missing_ok=True)
        for number in range(KEPT_OUTPUTS - 1, 0, -1):
            older = self.path / f"output-{number}.log"
            newer = self.path / f"output-{number - 1}.log" if number > 1 else self.output
            if newer.exists():
                newer.replace(older)
        self.write_spec(spec)

    def lock(self) -> int | None:
        """The lock's descriptor, or None if another process holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def locked(self) -> bool:
        """True while a process of this host runs the job."""
        if not (self.path / "lock").exists():
            return False
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def ask_to_end(self) -> None:
        if self.path.exists():
            (self.path / "cancel").touch()

    def asked_to_end(self) -> bool:
        return (self.path / "cancel").exists()

    def mark_abandoned(self) -> None:
        if self.path.exists():
            (self.path / "abandoned").touch()

    def adopt(self) -> None:
        """Take an abandoned job over."""
        (self.path / "abandoned").unlink(missing_ok=True)

    def abandoned_for_s(self) -> float | None:
        """Seconds since nobody watches the job; None if somebody does."""
        try:
            return time.time() - (self.path / "abandoned").stat().st_mtime
        except FileNotFoundError:
            return None

    def _write(self, name: str, document: Any) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")
        temporary.replace(self.path / name)

    def _read(self, name: str) -> Any:
        with contextlib.suppress(FileNotFoundError):
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        return None
