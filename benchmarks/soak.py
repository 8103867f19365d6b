"""Training with a random kill every minute: what survives.

    python -m benchmarks.soak --minutes 30 [--seed N]

One day after another is trained by `persia train`, as a scheduler would: what ends with a code that is to be
tried again is tried again. Meanwhile a random rank gets SIGKILL, or now and then SIGSTOP, at a random moment
of every minute. Counts the kills, the days that were trained to the end all the same, the rows that these
lost (`rows_in` less trained and skipped), and the processes and segments that were left behind.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report
from persia_core.checkpoint.layout import CHECKPOINT, METRICS, run_directory
from persia_core.config import ModelConfig, parse_config
from persia_core.exit_codes import ExitCode, is_retryable
from persia_core.handoff.layout import MANIFEST, checkpoint_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.transfer import upload_parts
from persia_core.launch.ending import processes_of
from persia_core.launch.rank_process import rank_processes
from persia_core.launch.segments import abandoned
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_config, small_rows

RUN = "soak"
STEP_S = 0.05  # that the model takes longer than it needs, so that a day lasts some minutes' part
ROWS = 64 * 600
MINUTE_S = 60.0


def configured(home: Path) -> ModelConfig:
    document = small_config().model_dump(mode="json")
    document["training"] |= {
        "mode": "hybrid",
        "staleness": 4,
        "global_batch_size": 64,
        "model": "tests.support.models:Slow",
        "model_args": {"seconds": STEP_S},
    }
    document["cluster"] |= {
        "servers": 2,
        "embedding_workers": 1,
        "trainers": 2,
        "heartbeat_timeout_s": 10.0,
    }
    document["checkpoint"] |= {"every_seconds": 5.0}
    document["storage"]["url"] = f"file://{home / 'store'}"
    return parse_config(document, "soak")


@dataclass
class Killer:
    """Kills at a random moment of each of some minutes, in a thread of its own."""

    seed: int
    minutes: float
    run_dir: Path | None = None  # of the job that runs
    kills: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._started = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        minute = 0
        while minute < self.minutes:
            moment = self._started + MINUTE_S * (minute + self._random.random())
            if self._stop.wait(max(0.0, moment - time.monotonic())):
                return
            while not self._kill():  # between two jobs, or while one starts
                if self._stop.wait(0.2):
                    return
            minute += 1

    def _kill(self) -> bool:
        running = [each for each in self._ranks() if each.status is None]
        if not running:
            return False
        victim = self._random.choice(running)
        number = self._random.choice([signal.SIGKILL] * 3 + [signal.SIGSTOP])
        try:
            os.kill(victim.pid, number)
        except ProcessLookupError:
            return False
        at = round(time.monotonic() - self._started, 1)
        self.kills.append({"at_s": at, "role": victim.role, "signal": number.name})
        print(f"soak: {at:.0f} s: {number.name} to {victim.role}", flush=True)
        return True

    def _ranks(self) -> list[Any]:
        return [] if self.run_dir is None else rank_processes(self.run_dir)


def train(home: Path, file: Path, config: ModelConfig, ds: str, first: bool) -> tuple[list[int], Path]:
    """Run the command until it ends well; its exit codes, and the run directory."""
    run_dir = run_directory(home / "work", config.name, ds, RUN)
    command = [
        sys.executable,
        "-m",
        "persia_core.cli",
        "train",
        "--config",
        str(file),
        "--ds",
        ds,
        "--run",
        RUN,
    ]
    codes: list[int] = []
    while not codes or codes[-1] != ExitCode.OK:
        with (home / "train.log").open("ab") as log:
            done = subprocess.run(
                [*command, *(["--cold-start"] if first else [])],
                stdout=subprocess.DEVNULL,
                stderr=log,
                check=False,
                env={**os.environ, "PERSIA_HOME": str(home)},
            )
        codes.append(done.returncode)
        if codes[-1] != ExitCode.OK and not is_retryable(codes[-1]):
            raise SystemExit(
                f"soak: {ds} ended with {codes[-1]}, which is not to be tried again:\n" + tail(home)
            )
    return codes, run_dir


def tail(home: Path) -> str:
    return (home / "train.log").read_text(errors="replace")[-4000:]


def publish(store: LocalStore, config: ModelConfig, ds: str, run_dir: Path) -> None:
    directory = run_dir / CHECKPOINT
    manifest = Manifest.from_bytes((directory / MANIFEST).read_bytes(), str(directory))
    upload_parts(store, checkpoint_prefix(config.name, ds, RUN), directory, manifest)


def soak(minutes: float, seed: int, home: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures and samples."""
    config = configured(home)
    store = LocalStore(home / "store")
    file = home / "model.yaml"
    file.write_text(json.dumps(config.model_dump(mode="json")))
    killer = Killer(seed, minutes)
    days: list[dict[str, Any]] = []
    orphans = segments = 0
    before = set(abandoned())
    until = time.monotonic() + 60.0 * minutes
    while time.monotonic() < until:
        ds = f"2026-{1 + len(days) // 28:02d}-{1 + len(days) % 28:02d}"
        write_hashed_partition(config, store, ds, small_rows(ROWS, seed=len(days)))
        killer.run_dir = run_directory(home / "work", config.name, ds, RUN)
        codes, run_dir = train(home, file, config, ds, first=not days)
        orphans += len(list(processes_of(run_dir)))
        segments += len(set(abandoned()) - before)
        metrics = json.loads((run_dir / METRICS).read_text())
        skipped = sum(metrics["rows_skipped"].values())
        lost = metrics["rows_in"] - metrics["rows_trained"] - skipped
        days.append({"ds": ds, "codes": codes, "rows": metrics["rows_in"], "skipped": skipped, "lost": lost})
        print(f"soak: {ds} trained after {len(codes)} attempts, {lost} rows lost", flush=True)
        publish(store, config, ds, run_dir)
    killer.stop()
    figures = {
        "minutes": minutes,
        "kills": len(killer.kills),
        "kills_survived": len(killer.kills),  # a day that cannot be trained to its end does not get here
        "days_trained": len(days),
        "attempts": sum(len(day["codes"]) for day in days),
        "rows_lost": sum(day["lost"] for day in days),
        "rows_skipped": sum(day["skipped"] for day in days),
        "orphan_processes": orphans,
        "orphan_segments": segments,
    }
    return {name: float(value) for name, value in figures.items()}, {"kills": killer.kills, "days": days}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=report.RESULTS / "soak.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="persia-soak-") as directory:
        figures, samples = soak(arguments.minutes, arguments.seed, Path(directory))
    samples["seed"] = arguments.seed
    command = f"make soak MINUTES={arguments.minutes:g} SEED={arguments.seed}"
    report.write(arguments.result, figures, samples, [], command)
    report.print_table("soak", ["", ""], [[name, f"{value:g}"] for name, value in figures.items()])
    if figures["rows_lost"] or figures["orphan_processes"] or figures["orphan_segments"]:
        sys.exit("soak: something was lost or left behind")


if __name__ == "__main__":
    main()
