"""Training throughput beside the dense network alone and its peers.

`make bench-train` (`SMALL=1` for a size that only shows that the program works). See docs/benchmarks.md.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from benchmarks import plot_train, report
from benchmarks.harness import QUIET_CORES, Samples
from benchmarks.jobs import beside_a_server
from benchmarks.machine import PROJECT

log = logging.getLogger("benchmarks.train")

NAME = "train"
FULL: dict[str, Any] = {"rows": 10_000_000, "samples": 4096, "steps": 30, "rounds": 5, "tries": 3}
SMALL: dict[str, Any] = {"rows": 20_000, "samples": 64, "steps": 3, "rounds": 2, "tries": 1}


def job(settings: dict[str, Any]) -> dict[str, Any]:
    """One MPI job: an embedding server, and a trainer in whose process the contestants take turns."""
    environment = {
        # As for the store: peers get huge pages too, and OpenMP's threads sleep while they wait.
        "THP_MEM_ALLOC_ENABLE": "1",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
    }
    options = ["--priority", settings["priority"]]
    return beside_a_server("benchmarks.train_rank", settings, environment, options)


def figures_of(dim: int, samples: Samples) -> dict[str, float]:
    """`train_vs_<other>_dim<dim>`: ours over the other, samples per second."""
    others = {"ceiling": "dense part alone", "fbgemm": "fbgemm", "torch": "torch"}
    ratios = {
        f"train_vs_{short}_dim{dim}": samples.ratio("ours", name, "samples/s")
        for short, name in others.items()
    }
    return {name: value for name, value in ratios.items() if value is not None}


def main() -> None:
    """Run all, print, plot and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny, into build/bench/small")
    parser.add_argument("--dims", type=int, nargs="+", default=[16, 64], help="dims of the tables")
    parser.add_argument("--rows", type=int, help="rows of the table")
    parser.add_argument("--rounds", type=int, help="rounds per dim")
    parser.add_argument("--tries", type=int, help="times that a round is tried while others use the machine")
    parser.add_argument("--priority", choices=("normal", "idle"), default="idle", help="of our servers")
    parser.add_argument("--only", nargs="+", help="contestants to run")
    parser.add_argument("--out", type=Path, help="directory for the result and the plot")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    settings = dict(SMALL if arguments.small else FULL)
    settings["priority"] = arguments.priority
    settings |= {
        name: value for name in ("rows", "rounds", "tries") if (value := getattr(arguments, name)) is not None
    }
    out = arguments.out or (PROJECT / "build" / "bench" / "small" if arguments.small else None)
    results: dict[int, Samples] = {}
    figures: dict[str, float] = {}
    notes: list[str] = []
    raw: dict[str, object] = {}
    for dim in arguments.dims:
        log.info("dim %d", dim)
        outcome = job(settings | {"dim": dim, "only": arguments.only})
        samples = Samples(**outcome["samples"])
        results[dim] = samples
        figures |= figures_of(dim, samples)
        notes += [f"dim {dim}: {note}" for note in outcome["notes"]]
        if (worst := max(samples.others_cores)) > QUIET_CORES:
            notes.append(f"dim {dim}: others used up to {worst:.2f} cores during a round that was kept")
        raw[f"dim {dim}"] = samples.values | {"others_cores": samples.others_cores}
    names = sorted({name for samples in results.values() for name in samples.values})
    table = [[n, *(f"{results[d].median(n, 'samples/s') or 0:,.0f}" for d in results)] for n in names]
    report.print_table("samples per second", ["", *(f"dim {dim}" for dim in results)], table)
    report.print_table("figures", ["", ""], [[name, f"{value:.4g}"] for name, value in figures.items()])
    for note in notes:
        print(f"note: {note}")
    image = (out or report.IMAGES) / f"bench_{NAME}.svg"
    plot_train.bars(results, image)
    path = (out or report.RESULTS) / f"{NAME}.json"
    report.write(path, figures, raw, notes, report.make_command("bench-train"))
    print(f"plot: {image}\nresult: {path}")


if __name__ == "__main__":
    main()
