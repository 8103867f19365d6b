"""The Spark job beside the same reading and writing without hashing, Python functions, and Polars.

`make bench-spark` (`SMALL=1` for a size that only shows that the program works). See docs/benchmarks.md.
"""

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import report
from benchmarks.criteo_rows import write_rows
from benchmarks.harness import QUIET_CORES, Contestant, Measure, Samples, interleave
from benchmarks.hashing import CONTESTANTS, Run
from benchmarks.hashing_agreement import check_agreement

log = logging.getLogger("benchmarks.spark")

NAME = "spark"
FULL_ROWS, SMALL_ROWS = 5_000_000, 4_000
_POLL_SECONDS = 0.1


def main() -> None:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few rows, into build/bench/small")
    parser.add_argument("--rows", type=int, help=f"rows to hash ({FULL_ROWS})")
    parser.add_argument("--rounds", type=int, help="rounds (3; of the small size 1)")
    parser.add_argument("--tries", type=int, help="times that a round is tried while others use the machine")
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), help="contestants beside ours")
    parser.add_argument("--out", type=Path, help="directory for the result")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)

    rows = arguments.rows or (SMALL_ROWS if arguments.small else FULL_ROWS)
    rounds = arguments.rounds or (1 if arguments.small else 3)
    tries = arguments.tries or (1 if arguments.small else 2)
    names = ["ours", *(name for name in arguments.only or CONTESTANTS if name != "ours")]
    out = arguments.out or (
        report.PROJECT / "build" / "bench" / "small" if arguments.small else report.RESULTS
    )
    folder = report.PROJECT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="spark-", dir=folder))
    try:
        check_agreement(scratch)
        files = []
        for share in (4, 2, 1):
            files.append(scratch / f"{rows // share}.tsv")
            write_rows(files[-1], rows // share, seed=share)
            log.info("%d rows written, %d bytes", rows // share, files[-1].stat().st_size)
        jobs = _Jobs(names, files, rows, scratch, alone=not arguments.small)
        contestants = [Contestant(name, 0, partial(_opened, partial(jobs.measure, name))) for name in names]
        samples = interleave(contestants, rounds, tries)
        raw_bytes = [file.stat().st_size for file in files]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    figures = figures_of(samples, rows)
    _print(samples, names)
    report.print_table("figures", ["", ""], [[name, f"{value:.4g}"] for name, value in figures.items()])
    notes = notes_of(samples, jobs, raw_bytes)
    for note in notes:
        print(f"note: {note}")
    raw: dict[str, object] = dict(samples.values) | {"others_cores": samples.others_cores}
    raw |= {"shuffles": jobs.shuffled, "rows": rows, "raw_bytes": raw_bytes}
    report.write(out / f"{NAME}.json", figures, raw, notes, report.make_command("bench-spark"))
    print(f"result: {out / f'{NAME}.json'}")


@contextmanager
def _opened(measure: Measure) -> Iterator[Measure]:
    yield measure


class _Jobs:
    """Runs contestants in processes of their own, and watches the memory of their trees.

    `alone`: each in its own, warmed up. Else all of them in one, and nothing twice: enough to show that the
    program works.
    """

    def __init__(self, names: list[str], files: list[Path], rows: int, scratch: Path, alone: bool) -> None:
        self.names, self.files, self.rows, self.alone = names, files, rows, alone
        self.shuffled: dict[str, dict[str, int]] = {}
        self._scratch = scratch
        self._together: tuple[dict[str, Any], int] | None = None

    def measure(self, name: str, turn: int) -> dict[str, float]:
        """Figures of one contestant in one round."""
        del turn
        if self.alone:
            content, peak = self._run([name])
        else:
            self._together = self._together or self._run(self.names)
            content, peak = self._together
        found = content[name]
        seconds = found["seconds"]
        if "shuffles" in found:
            self.shuffled[name] = found["shuffles"]
        measured = {"seconds": seconds[-1], "rows per s": self.rows / seconds[-1], "peak GiB": peak / 2**30}
        measured["disk GiB"] = found["disk"] / 2**30
        if name == "ours":
            measured |= {"seconds, a quarter": seconds[0], "seconds, half": seconds[1]}
        log.info("%s: %.1f s, %.2f GiB", name, seconds[-1], peak / 2**30)
        return measured

    @property
    def hashed_by_ours(self) -> list[int]:
        """Rows of each file that a process of ours hashes."""
        rows = [self.rows // 4, self.rows // 2, self.rows]
        return [rows[0], *rows] if self.alone else rows

    def _run(self, names: list[str]) -> tuple[dict[str, Any], int]:
        place = Path(tempfile.mkdtemp(dir=self._scratch))
        try:
            run = Run(names, self.alone, str(place / "result.json"), str(place))
            return run_contestants(run, self.files)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def run_contestants(run: Run, files: list[Path]) -> tuple[dict[str, Any], int]:
    """What `benchmarks.hashing` writes for `files`, and the most bytes of memory that its processes had."""
    command = [sys.executable, "-m", "benchmarks.hashing", json.dumps(asdict(run)), *map(str, files)]
    environment = os.environ | {"PERSIA_STORAGE_URL": "file:///unused"}
    process = subprocess.Popen(command, cwd=report.PROJECT, env=environment)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, lambda: process.poll() is None, peak))
    watcher.start()
    code = process.wait()
    watcher.join()
    if code != 0:
        raise SystemExit(f"{', '.join(run.names)} ended with exit code {code}; what it printed says why")
    content: dict[str, Any] = json.loads(Path(run.result).read_text(encoding="utf-8"))
    return content, peak[0]


def _watch(pid: int, alive: Callable[[], bool], peak: list[int]) -> None:
    """Proportional memory of a process tree, so that shared pages count once; the most of all looks."""
    pause = threading.Event()
    while alive():
        total = 0
        try:
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
        except psutil.Error:
            break
        peak[0] = max(peak[0], total)
        pause.wait(_POLL_SECONDS)


def figures_of(samples: Samples, rows: int) -> dict[str, float]:
    """Ratios of speed, above 1 where ours is faster; seconds per doubling of rows; memory."""
    found: dict[str, float | None] = {
        f"hash_vs_{name.replace(' ', '_')}": samples.ratio("ours", name, "rows per s")
        for name in ("plain copy", "ordered copy", "python udf", "polars")
    }
    ours = samples.values["ours"]
    growth = [
        (whole / part) ** 0.5 for whole, part in zip(ours["seconds"], ours["seconds, a quarter"], strict=True)
    ]
    found["time_growth_per_doubling"] = statistics.median(growth)
    found["hash_rows_per_s"] = samples.median("ours", "rows per s")
    found["hash_peak_gib"] = samples.median("ours", "peak GiB")
    return {name: value for name, value in found.items() if value is not None}


def notes_of(samples: Samples, jobs: _Jobs, raw_bytes: list[int]) -> list[str]:
    """What the figures must be read with, and what docs/spark-cluster.md is worked out from."""
    notes = []
    for name, figures in jobs.shuffled.items():
        words = (
            f"{name}, by Spark's event log, over all files of a process: {figures['stages']} stages wrote a "
            f"shuffle, {figures['records']} records, {figures['bytes']} bytes"
        )
        if name == "ours":
            files = jobs.hashed_by_ours
            words += (
                f"; an order needs {len(files)} stages, one a file, and {sum(files)} records, each row once"
            )
        notes.append(words)
    if max(samples.others_cores) > QUIET_CORES:
        notes.append(f"others used up to {max(samples.others_cores):.2f} cores during a round that was kept")
    warm = "; every contestant hashes a quarter of them first, to warm up" if jobs.alone else ""
    notes.append(f"{jobs.rows} rows{warm}")
    disk = sum(raw_bytes) / 2**30 + max(max(found["disk GiB"]) for found in samples.values.values())
    notes.append(f"disk: {disk:.2f} GiB at most, the raw files among them")
    ours, shuffle = samples.values["ours"], jobs.shuffled["ours"]
    cores = len(os.sched_getaffinity(0))
    notes.append(
        f"for docs/spark-cluster.md: b = {raw_bytes[-1] / jobs.rows:.0f} bytes of a raw row, "
        f"s = {shuffle['bytes'] / shuffle['records']:.0f} bytes of a shuffled row, "
        f"v = {statistics.median(ours['rows per s']) / cores:.0f} rows/s of each of {cores} cores, "
        f"g = {max(ours['peak GiB']):.2f} GiB at most"
    )
    return notes


def _print(samples: Samples, names: list[str]) -> None:
    kinds = ["seconds", "rows per s", "peak GiB"]
    table = [[name, *(f"{samples.median(name, kind):,.2f}" for kind in kinds)] for name in names]
    report.print_table("medians", ["", *kinds], table)


if __name__ == "__main__":
    main()
