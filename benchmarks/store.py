"""The embedding store beside its peers, the plain reference and what the memory allows.

`make bench-store` (`SMALL=1` for a size that only shows that the program works). See docs/benchmarks.md.
"""

import argparse
import logging
import os
import warnings
from pathlib import Path

from benchmarks import report
from benchmarks.batches import DISTRIBUTIONS, make_batches
from benchmarks.harness import QUIET_CORES, Samples, interleave
from benchmarks.sizes import FULL, SMALL, Size

log = logging.getLogger("benchmarks.store")

NAME = "store"
PARTS = ("tables", "memory", "served")
Results = dict[tuple[int, int, str], Samples]  # by table rows, dim and company


def run(size: Size) -> tuple[Results, list[str]]:
    """Every company of contestants at every size; and why somebody is left out."""
    from benchmarks.agreement import check_agreement
    from benchmarks.companies import BatchPool, companies, left_out

    check_agreement()

    results: Results = {}
    notes = left_out()
    for rows in size.table_rows:
        drawn = {
            distribution: make_batches(distribution, rows, size.batches, size.batch, seed=rows)
            for distribution in DISTRIBUTIONS
        }
        for dim in size.dims:
            pool = BatchPool(drawn, dim, size)
            for name, contestants in companies(rows, pool).items():
                log.info("%d rows, dim %d: %s", rows, dim, ", ".join(c.name for c in contestants))
                samples = interleave(contestants, size.rounds, size.tries, openings=size.openings)
                results[rows, dim, name] = samples
                notes += _disturbances(f"{rows} rows, dim {dim}, {name}", samples)
    return results, notes


def part_of(name: str) -> str:
    """The part that a figure or a sample belongs to."""
    if name in ("memory", "overhead_bytes_per_row", "rss_growth_at_capacity"):
        return "memory"
    return "served" if name.startswith("served") else "tables"


def _disturbances(where: str, samples: Samples) -> list[str]:
    notes = []
    if not samples.together:
        notes.append(f"{where}: memory holds one contestant at a time; each was filled anew in every round")
    if (worst := max(samples.others_cores)) > QUIET_CORES:
        notes.append(
            f"{where}: others used up to {worst:.2f} cores during a round that was kept "
            f"({samples.repeated} were repeated)"
        )
    return notes


def ratios(results: Results) -> dict[str, float]:
    """The figures of one thread, Zipf, the largest table."""
    figures: dict[str, float | None] = {}
    largest = max(rows for rows, _, _ in results)
    for rows, dim, company in results:
        if rows != largest:
            continue
        samples = results[rows, dim, company]
        against = {
            "row-wise": (("fbgemm", "fbgemm", ("lookup", "update")),),
            "row-wise, one feature": (("fbgemm, one feature", "fbgemm_one_feature", ("lookup", "update")),),
            "elementwise": (("reference", "reference", ("update",)),),
            "limit": (("limit", "limit", ("update",)),),
            "torch": (("torch", "torch", ("update",)),),
        }.get(company, ())
        for other, name, measured in against:
            for short in measured:
                kind = f"zipf {'lookup+update' if short == 'update' else short}"
                figures[f"{short}_vs_{name}_dim{dim}"] = samples.ratio("ours", other, kind)
    return {name: value for name, value in figures.items() if value is not None}


def print_results(results: Results) -> None:
    """Medians in millions of rows per second."""
    for (rows, dim, company), samples in results.items():
        kinds = [f"{d} {what}" for d in DISTRIBUTIONS for what in ("lookup", "lookup+update")]
        table = [
            [name, *(f"{samples.median(name, kind):.2f}" for kind in kinds)]
            for name in sorted(samples.values)
        ]
        report.print_table(f"{rows:,} rows, dim {dim}, {company}: Mrows/s", ["", *kinds], table)


def main() -> None:
    """Run all, print, plot and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny tables, into build/bench/small")
    parser.add_argument("--rows", type=int, nargs="+", help="rows of the tables")
    parser.add_argument("--dims", type=int, nargs="+", help="dims of the tables")
    parser.add_argument("--rounds", type=int, help="rounds per size")
    parser.add_argument("--tries", type=int, help="times that a round is tried while others use the machine")
    parser.add_argument("--parts", nargs="+", default=PARTS, help="what to measure; the rest is kept")
    parser.add_argument("--out", type=Path, help="directory for the result and the plot")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    log.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", message="Sparse invariant checks")
    # Peers get the huge pages that the store takes: torch reads this when it first allocates.
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"
    # OpenMP's threads spin while they wait; beside a neighbour on the same cores that costs them tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    from benchmarks import jobs, plot

    size = (SMALL if arguments.small else FULL).with_changes(
        arguments.rows, arguments.dims, arguments.rounds, arguments.tries
    )
    out = arguments.out or (report.PROJECT / "build" / "bench" / "small" if arguments.small else None)
    results: Results = {}
    figures: dict[str, float] = {}
    notes: list[str] = []
    raw: dict[str, object] = {}
    if "tables" in arguments.parts:
        results, notes = run(size)
        figures |= ratios(results)
        for (rows, dim, company), samples in results.items():
            key = f"{rows} rows, dim {dim}, {company}"
            raw[key] = samples.values | {"others_cores": samples.others_cores}
    for part, job in (("memory", jobs.memory), ("served", jobs.served)):
        if part in arguments.parts:
            outcome = job(size)
            figures |= outcome.figures
            notes += outcome.notes
            raw[part] = outcome.samples

    path = (out or report.RESULTS) / f"{NAME}.json"
    for part in PARTS:
        if part not in arguments.parts:
            report.keep(path, part, part_of, figures, raw, notes)
    print_results(results)
    report.print_table("figures", ["", ""], [[name, f"{value:.4g}"] for name, value in figures.items()])
    for note in notes:
        print(f"note: {note}")
    if results:
        image = (out or report.IMAGES) / f"bench_{NAME}.svg"
        plot.bars(results, image)
        print(f"\nplot: {image}")
    report.write(path, figures, raw, notes, report.make_command("bench-store"))
    print(f"result: {path}")


if __name__ == "__main__":
    main()
