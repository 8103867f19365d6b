"""What the results of the study come to: paired differences over seeds, and the tables."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.study.plan import ASYNC, HYBRID, SYNC

Aucs = Mapping[str, Mapping[str, Mapping[int, float]]]  # data set -> setting -> seed -> AUC


# Hybrid 2.6 times as fast as sync, as in PERSIA's figure, means that sync spends 62 % of a step on its way
# to and from the servers. With the study's steps of some 11 ms that takes replies that are so much later.
FIGURE_DELAY_MS = 10.0


@dataclass(frozen=True)
class Difference:
    """Mean over seeds of (a setting less another one, same seed), and its standard error."""

    mean: float
    stderr: float
    seeds: int


def spread(values: list[float]) -> float:
    """The standard deviation of a sample; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def paired(aucs: Mapping[int, float], others: Mapping[int, float]) -> Difference | None:
    """`aucs` less `others` over the seeds that both have; None if there is none."""
    seeds = sorted(aucs.keys() & others.keys())
    if not seeds:
        return None
    differences = [aucs[seed] - others[seed] for seed in seeds]
    return Difference(
        statistics.fmean(differences), spread(differences) / math.sqrt(len(seeds)), len(differences)
    )


def auc_figures(aucs: Aucs) -> dict[str, float]:
    """The differences of hybrid (at the default staleness) and async to sync, by data set."""
    figures = {}
    for data, settings in aucs.items():
        for name, setting in (("hybrid", HYBRID), ("async", ASYNC)):
            difference = paired(settings.get(setting.name, {}), settings.get(SYNC.name, {}))
            if difference is not None:
                figures[f"auc_{name}_minus_sync_{data}"] = difference.mean
                figures[f"auc_{name}_minus_sync_{data}_stderr"] = difference.stderr
    return figures


def auc_rows(aucs: Aucs) -> list[list[str]]:
    """For a table: data set, setting, seeds, AUC with its deviation, difference to sync with its error."""
    rows = []
    for data, settings in aucs.items():
        for setting, of_seed in settings.items():
            values = list(of_seed.values())
            row = [f"{data} {setting}", str(len(values))]
            row.append(f"{statistics.fmean(values):.5f} ± {spread(values):.5f}")
            difference = None if setting == SYNC.name else paired(of_seed, settings.get(SYNC.name, {}))
            shown = "-" if difference is None else f"{difference.mean:+.5f} ± {difference.stderr:.5f}"
            rows.append([*row, shown])
    return rows


def throughput_figures(speeds: Mapping[float, Mapping[str, list[float]]]) -> dict[str, float]:
    """Ratios of hybrid to the other modes and to itself without delay; medians over rounds.

    `speeds`: delay in ms -> mode -> samples per second of each round. The figures without a delay in
    their name are those at FIGURE_DELAY_MS.
    """
    figures = {}
    for delay, modes in speeds.items():
        for other in (SYNC.mode, ASYNC.mode):
            if ratio := _ratio(modes.get(HYBRID.mode), modes.get(other)):
                figures[f"hybrid_vs_{other}_at_{delay:g}ms"] = ratio
                if delay == FIGURE_DELAY_MS:
                    figures[f"hybrid_vs_{other}_at_delay"] = ratio
        if ratio := _ratio(modes.get(HYBRID.mode), speeds.get(0.0, {}).get(HYBRID.mode)):
            figures[f"hybrid_kept_at_{delay:g}ms"] = ratio
    return figures


def _ratio(mine: list[float] | None, theirs: list[float] | None) -> float | None:
    if not mine or not theirs:
        return None
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=False))
