"""Throughput of the modes against a delay of every message between trainers and servers."""

import logging
import os
import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import QUIET_CORES, until_quiet
from benchmarks.study.figures import FIGURE_DELAY_MS
from benchmarks.study.partitions import StudyStore
from benchmarks.study.plan import ASYNC, DATA, HYBRID, SYNC, Setting, StudyData, configured, resolved
from benchmarks.study.records import Record, Records, run_setting

log = logging.getLogger(__name__)

DELAYS_MS = (0.0, 0.2, 1.0, 5.0, FIGURE_DELAY_MS, 20.0)
SETTINGS = (SYNC, HYBRID, ASYNC)
DELAY_KEY = "simulated_network_delay_ms"  # of the section cluster
BATCH = 1024  # samples of a step: 147 steps a seed, so that the longest delay is no matter of minutes
WARM_UP = 1  # seeds: the first of a job pays for what is made once


@dataclass
class Speeds:
    """Samples per second by delay (ms), mode and round; and what others used of the machine meanwhile."""

    values: dict[float, dict[str, list[float]]] = field(default_factory=dict)
    others_cores: list[float] = field(default_factory=list)

    def add(self, delay: float, setting: Setting, speed: float, others: float) -> None:
        self.values.setdefault(delay, {}).setdefault(setting.mode, []).append(speed)
        self.others_cores.append(others)


def _data() -> StudyData:
    """The synthetic click log, which every machine can make."""
    return next(data for data in DATA if data.folder is None)


def _changes(delay: float) -> dict[str, Any]:
    return {"cluster": {DELAY_KEY: delay}, "training": {"global_batch_size": BATCH}}


def check(store: StudyStore) -> None:
    """Raise ConfigError if this version of the product cannot delay anything."""
    resolved(configured(_data(), HYBRID, **_changes(1.0)), store.store_path)


def measure(records: Records, store: StudyStore, rounds: int, tries: int, small: bool) -> Speeds:
    """Every mode at every delay, in turn, `rounds` times; a job for each, whose first seed is for warming up.

    A job during which others used the machine is repeated, up to `tries` times; the quietest counts.
    """
    records.path.unlink(missing_ok=True)  # what was measured at another time is no round of this run
    data = _data()
    speeds = Speeds()
    delays = (0.0, FIGURE_DELAY_MS) if small else DELAYS_MS
    for number in range(rounds):
        for delay in delays:
            for setting in SETTINGS:
                first = (1 + WARM_UP) * tries * number + 1

                def work(
                    attempt: int, setting: Setting = setting, delay: float = delay, first: int = first
                ) -> Record:
                    seeds = [first + (1 + WARM_UP) * attempt + i for i in range(1 + WARM_UP)]
                    labels = {"delay_ms": delay}
                    found = run_setting(records, store, data, setting, seeds, labels, **_changes(delay))
                    return found[seeds[-1]]

                quiet = until_quiet(work, tries, root=os.getpid())
                speed = quiet.result["samples"] / quiet.result["seconds"]
                speeds.add(delay, setting, speed, quiet.others_cores)
                log.info(
                    "round %d of %d, %g ms, %s: %.0f samples/s (others used %.2f cores)",
                    *(number + 1, rounds, delay, setting.mode, speed, quiet.others_cores),
                )
    return speeds


def disturbances(speeds: Speeds) -> list[str]:
    """What has to be said about the rounds that were kept."""
    worst = max(speeds.others_cores, default=0.0)
    return (
        [f"delay: others used up to {worst:.2f} cores during a job that was kept"]
        if worst > QUIET_CORES
        else []
    )


def speed_rows(speeds: Speeds) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: medians by delay and mode."""
    modes = [setting.mode for setting in SETTINGS]
    rows = [
        [f"{delay:g} ms", *(f"{statistics.median(found[mode]):,.0f}" for mode in modes)]
        for delay, found in speeds.values.items()
    ]
    return ["delay", *modes], rows
