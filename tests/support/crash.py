"""A training job as a user starts it, to be killed at a known place, and what must be true afterwards."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig
from persia_core.launch.ending import processes_of
from persia_core.launch.rank_process import rank_processes
from persia_core.phases import HELD, HOLD_VARIABLE, Phase

_numbers = itertools.count()
PATIENCE_S = 240.0
SEGMENTS = b"OMPI_MCA_btl_sm_backing_directory="


def wait_until(true: Callable[[], Any], what: str) -> None:
    """Wait for a condition; it fails long after any wait that is well."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"it did not come to pass: {what}"
        time.sleep(0.005)


@dataclass(frozen=True)
class Outcome:
    code: int
    said: str  # on standard error


class CrashJob:
    """`persia train` of one run in a process of its own."""

    def __init__(
        self, home: Path, config: ModelConfig, ds: str, run: str, outside: Path | None = None
    ) -> None:
        """`home` is PERSIA_HOME; the configuration names its own store; the test writes to `outside`."""
        self.run_dir = home / "work" / config.name / f"ds={ds}" / run
        self._home = home
        self._file = (outside or home) / f"{run}.yaml"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(config.model_dump(mode="json")))  # JSON is YAML
        self._arguments = ["--config", str(self._file), "--ds", ds, "--run", run]
        self._process: subprocess.Popen[bytes] | None = None
        self._segments: Path | None = None
        self._said = self._file.with_suffix(f".{next(_numbers)}.err")

    def start(
        self,
        command: str = "train",
        *,
        hold_at: Phase | None = None,
        cold_start: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        more = ["--cold-start"] if cold_start else []
        held = {} if hold_at is None else {HOLD_VARIABLE: str(hold_at)}
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "persia_core.cli", command, *self._arguments, *more],
                env={**os.environ, "PERSIA_HOME": str(self._home), **held, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )

    def wait_for(self, true: Callable[[], Any], what: str) -> None:
        """Wait for a condition while the job runs."""

        def over() -> bool:
            assert self._process is not None
            if self._process.poll() is None:
                return bool(true())
            if true():
                return True
            raise AssertionError(f"the job ended before {what}:\n{self._said.read_text()[-4000:]}")

        wait_until(over, what)

    def wait_until_held(self) -> None:
        self.wait_for((self.run_dir / HELD).exists, "it was held")

    def wait_until_beating(self, rank: int) -> None:
        def beats() -> bool:
            return any(each.rank == rank and each.heartbeat.exists() for each in rank_processes(self.run_dir))

        self.wait_for(beats, f"rank {rank} gave a sign of life")

    def go_on(self) -> None:
        (self.run_dir / HELD).unlink(missing_ok=True)

    def signal(self, rank: int, number: signal.Signals) -> None:
        self._segments = self.segments()
        (pid,) = (each.pid for each in rank_processes(self.run_dir) if each.rank == rank)
        os.kill(pid, number)

    @property
    def pid(self) -> int:
        """Of the command."""
        assert self._process is not None
        return self._process.pid

    def kill_command(self) -> None:
        assert self._process is not None
        self._process.kill()

    def finish(self) -> Outcome:
        """Wait for the end of the command."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
        return Outcome(code, self._said.read_text(errors="replace"))

    def check_nothing_is_left(self) -> None:
        """No process, no segment of the job."""
        left = list(processes_of(self.run_dir))
        assert not left, f"processes were left behind: {left}"
        assert self._segments is None or not self._segments.exists(), f"{self._segments} was left behind"

    def check_no_partial_checkpoint(self) -> None:
        """If there is a manifest, then every part that it lists is there, whole: told by hashlib alone."""
        for manifest in self.run_dir.rglob("manifest.json"):
            for part in json.loads(manifest.read_text())["parts"]:
                data = (manifest.parent / part["path"]).read_bytes()
                assert len(data) == part["size"], part["path"]
                assert hashlib.sha256(data).hexdigest() == part["sha256"], part["path"]

    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_dir / "metrics.json").read_text())
        return found

    def parts(self) -> Mapping[str, str]:
        """Path and SHA-256 of each part of the finished checkpoint, told by hashlib."""
        directory = self.run_dir / "checkpoint"
        names = [part["path"] for part in json.loads((directory / "manifest.json").read_text())["parts"]]
        return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}

    def segments(self) -> Path | None:
        """Where the ranks have their shared memory, while they run."""
        for pid in processes_of(self.run_dir):
            for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if entry.startswith(SEGMENTS):
                    return Path(entry.removeprefix(SEGMENTS).decode())
        return None
