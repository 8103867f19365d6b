"""How quickly `persia serve` answers, and how quickly it starts.

`make bench-serve` (`SMALL=1` for a size that only shows that the program works). See docs/benchmarks.md.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.harness import QUIET_CORES
from benchmarks.machine import PROJECT, Others
from benchmarks.serving.server import load, serving
from benchmarks.serving.version import config_of, request_rows, write_version

log = logging.getLogger("benchmarks.serve")

NAME = "serve"
DIM = 16
BATCHES = (1, 32, 256)
CONNECTIONS = 4
FULL = {"rows": 1_000_000, "start_rows": 16_000_000, "seconds": 10, "starts": 3}
SMALL = {"rows": 10_000, "start_rows": 20_000, "seconds": 1, "starts": 1}


def throughput(
    size: dict[str, int], figures: dict[str, float], raw: dict[str, Any], notes: list[str]
) -> None:
    """Latency and throughput by rows of a request, one connection and several."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        config = config_of(DIM, scratch / "store")
        rows = request_rows(max(BATCHES), scratch)
        write_version(config, size["rows"], rows, scratch)
        with serving(config, scratch) as (url, _):
            load(url, rows[:1], 1, 1, scratch)  # whatever is made at the first call
            for batch in BATCHES:
                for connections in (1, CONNECTIONS):
                    others = Others()
                    found = load(url, rows[:batch], connections, size["seconds"], scratch)
                    key = f"batch {batch}, {connections} connections"
                    raw[key] = found | {"others_cores": others.cores()}
                    log.info("%s: %.0f rows/s, p50 %.1f ms, p99 %.1f ms", key, *_three(found))
                    if found["errors"]:
                        notes.append(f"{key}: {found['errors']} requests failed")
                    if raw[key]["others_cores"] > QUIET_CORES:
                        notes.append(f"{key}: others used {raw[key]['others_cores']:.2f} cores")
                    if connections == 1:
                        figures[f"serve_p50_ms_batch{batch}"] = found["p50_ms"]
                        figures[f"serve_p99_ms_batch{batch}"] = found["p99_ms"]
                    else:
                        figures[f"serve_rows_per_s_batch{batch}"] = found["rows_per_s"]


def start(size: dict[str, int], figures: dict[str, float], raw: dict[str, Any]) -> None:
    """Seconds to the first answer, where the version was fetched and decoded before."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        config = config_of(DIM, scratch / "store")
        table_bytes = write_version(config, size["start_rows"], request_rows(1, scratch), scratch)
        shutil.rmtree(scratch / "version")
        seconds = []
        for _ in range(size["starts"] + 1):
            with serving(config, scratch) as (_, taken):
                seconds.append(taken)
        raw["start"] = {"table_bytes": table_bytes, "first_s": seconds[0], "later_s": seconds[1:]}
        figures["serve_start_s"] = sorted(seconds[1:])[len(seconds[1:]) // 2]
        figures["serve_first_start_s"] = seconds[0]
        figures["serve_start_table_gib"] = table_bytes / (1 << 30)


def _three(found: dict[str, Any]) -> tuple[float, float, float]:
    return found["rows_per_s"], found["p50_ms"], found["p99_ms"]


def main() -> None:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny, into build/bench/small")
    parser.add_argument("--out", type=Path, help="directory for the result")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    if shutil.which("wrk") is None:
        sys.exit("error: wrk is not installed\n  what to do: install your system's package of that name")
    size = SMALL if arguments.small else FULL
    figures: dict[str, float] = {}
    raw: dict[str, Any] = {}
    notes: list[str] = []
    throughput(size, figures, raw, notes)
    start(size, figures, raw)
    table = [
        [key, *(f"{found[name]:,.1f}" for name in ("requests_per_s", "rows_per_s", "p50_ms", "p99_ms"))]
        for key, found in raw.items()
        if key != "start"
    ]
    report.print_table("persia serve", ["", "requests/s", "rows/s", "p50 ms", "p99 ms"], table)
    report.print_table("figures", ["", ""], [[name, f"{value:.4g}"] for name, value in figures.items()])
    for note in notes:
        print(f"note: {note}")
    out = arguments.out or (PROJECT / "build" / "bench" / "small" if arguments.small else report.RESULTS)
    report.write(out / f"{NAME}.json", figures, raw, notes, report.make_command("bench-serve"))
    print(f"result: {out / f'{NAME}.json'}")


if __name__ == "__main__":
    main()
