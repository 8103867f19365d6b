"""The study of the modes: AUC of sync, hybrid and async on real data, and throughput against delay.

`make bench-modes` (`SMALL=1` for a size that only shows that the program works). See docs/study.md.
"""

import argparse
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import report
from benchmarks.machine import PROJECT
from benchmarks.study import delay
from benchmarks.study.figures import auc_figures, auc_rows, throughput_figures
from benchmarks.study.partitions import StudyStore
from benchmarks.study.plan import ASYNC, DATA, HYBRID, PERSIA_SETTING, SETTINGS, SYNC, Setting, StudyData
from benchmarks.study.plots import auc_plot, delay_plot
from benchmarks.study.records import Record, Records, run_setting

log = logging.getLogger("benchmarks.modes")

NAME = "modes"
PARTS = ("auc", "delay")
SMALL_SETTINGS = (SYNC, HYBRID, ASYNC)
Results = dict[str, dict[str, dict[int, Record]]]  # data set -> setting -> seed


@dataclass
class Outcome:
    """What goes into the result."""

    figures: dict[str, float] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def study(
    store: StudyStore,
    records: Records,
    data_sets: list[StudyData],
    settings: list[Setting],
    seeds: list[int],
    run: bool,
) -> Results:
    """All settings of a data set after one another; what the file of records holds is not run again."""
    found: Results = {}
    for data in data_sets:
        of_data = found.setdefault(data.name, {})
        for setting in settings:
            of_seed = run_setting(records, store, data, setting, seeds, run=run)
            if of_seed:
                of_data[setting.name] = of_seed
                mean = fmean(record["auc"] for record in of_seed.values())
                log.info("%s, %s: AUC %.4f of %d seeds", data.name, setting.name, mean, len(of_seed))
    return found


def part_of(name: str) -> str:
    """The part that a figure or a sample belongs to."""
    return "auc" if name.startswith(("auc", "adult_persia")) else "delay"


def auc_part(options: argparse.Namespace, store: StudyStore, images: Path, outcome: Outcome) -> None:
    """Every data set under every setting, and PERSIA's own example."""
    wanted = [data for data in DATA if data.name in options.sets]
    settings = [setting for setting in SETTINGS if setting.name in options.settings]
    outcome.notes += [why for data in wanted if (why := store.lacks(data))]
    records = Records(store.root / "auc.jsonl")
    data_sets = [data for data in wanted if not store.lacks(data)]
    seeds, run = list(range(1, options.seeds + 1)), not options.only_report
    results = study(store, records, data_sets, settings, seeds, run)
    aucs = {
        data: {name: {seed: float(r["auc"]) for seed, r in found.items()} for name, found in of.items()}
        for data, of in results.items()
    }
    outcome.figures |= auc_figures(aucs)
    outcome.samples["auc"] = results
    commits = {r.get("commit", "unknown") for of in results.values() for f in of.values() for r in f.values()}
    outcome.notes.append(f"auc: runs of commit {', '.join(sorted(commits))}")
    report.print_table(
        "AUC: mean ± deviation over seeds; less that of sync: mean ± standard error",
        ["data and setting", "seeds", "AUC", "less sync"],
        auc_rows(aucs),
    )
    auc_plot(aucs, images / "modes_auc.svg")
    if not options.small and not store.lacks(PERSIA_SETTING):
        found = run_setting(records, store, PERSIA_SETTING, SYNC, seeds, run=run)
        if found:
            mean = fmean(record["auc"] for record in found.values())
            outcome.figures["auc_adult_persia_setting"] = mean
            outcome.samples["adult_persia"] = found
            print(f"\nPERSIA's setting on Adult: AUC {mean:.4f} over {len(found)} seeds")


def delay_part(options: argparse.Namespace, store: StudyStore, images: Path, outcome: Outcome) -> None:
    """Throughput of the modes against delay."""
    rounds, tries = (1, 1) if options.small else (options.rounds, 4)
    speeds = delay.measure(Records(store.root / "delay.jsonl"), store, rounds, tries, options.small)
    outcome.figures |= throughput_figures(speeds.values)
    outcome.samples["delay"] = asdict(speeds)
    outcome.notes += delay.disturbances(speeds)
    report.print_table("samples per second", *delay.speed_rows(speeds))
    delay_plot(speeds.values, images / "modes_delay.svg")


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    work = options.work or PROJECT / "build" / "study" / ("small" if options.small else "full")
    store = StudyStore(work, options.data, options.small)
    out = options.out or (work / "results" if options.small else None)
    images = out or report.IMAGES
    path = (out or report.RESULTS) / f"{NAME}.json"
    outcome = Outcome()
    if "delay" in options.parts:
        delay.check(store)  # before hours of the other part
    for part in PARTS:
        if part not in options.parts:
            figures, samples, notes = outcome.figures, outcome.samples, outcome.notes
            report.keep(path, part, part_of, figures, samples, notes)
    for part, run in (("auc", auc_part), ("delay", delay_part)):
        if part in options.parts:
            run(options, store, images, outcome)
    command = report.make_command("bench-modes")
    report.write(path, outcome.figures, outcome.samples, outcome.notes, command)
    for note in outcome.notes:
        print(note)
    print(f"\n{len(outcome.figures)} figures in {path}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-modes", description=__doc__)
    names = [data.name for data in DATA]
    settings = [setting.name for setting in SETTINGS]
    parser.add_argument("--small", action="store_true", help="a size that only shows that the program works")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write result and plots there")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep partitions and results there")
    parser.add_argument(
        "--data",
        type=Path,
        default=PROJECT.parent / "shared" / "data",
        metavar="DIR",
        help="the raw data sets",
    )
    parser.add_argument("--seeds", type=int, help="of each setting (5)")
    parser.add_argument("--rounds", type=int, default=3, help="of the throughput (%(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(both)")
    parser.add_argument("--sets", nargs="+", choices=names, default=names, help="data sets (all)")
    parser.add_argument("--settings", nargs="+", choices=settings, default=settings, help="(all)")
    parser.add_argument("--only-report", action="store_true", help="AUC of the seeds that are done; run none")
    options = parser.parse_args()
    options.seeds = options.seeds or (2 if options.small else 5)
    if options.small:
        options.sets = [data.name for data in DATA if data.folder is None]
        options.settings = [setting.name for setting in SMALL_SETTINGS]
    return options


if __name__ == "__main__":
    main()
