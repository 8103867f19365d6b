"""The plots of the study: AUC less that of sync, and throughput against delay."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.study.figures import Aucs, paired
from benchmarks.study.plan import SETTINGS, SYNC

_COLOURS = {
    "adult": "#1b6ca8",
    "criteo": "#e08e45",
    "yoochoose": "#6b8f71",
    "synthetic": "#8c6bb1",
    "sync": "#b5b5b5",
    "hybrid": "#1b6ca8",
    "async": "#e08e45",
}


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    # No date and no random ids in the file: equal results make equal files. Text stays text.
    mpl.rcParams.update({"svg.hashsalt": "persia", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def auc_plot(aucs: Aucs, path: Path) -> None:
    """An SVG: by setting and data set the mean paired difference to sync, % AUC, and its standard error."""
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(7, 3.4), layout="constrained")
    names = [setting.name for setting in SETTINGS if setting != SYNC]
    width = 0.8 / max(1, len(aucs))
    for place, (data, settings) in enumerate(aucs.items()):
        found = [paired(settings.get(name, {}), settings.get(SYNC.name, {})) for name in names]
        at = [position + (place + 0.5) * width - 0.4 for position in range(len(names))]
        axis.errorbar(
            at,
            [100 * difference.mean if difference else float("nan") for difference in found],
            [100 * difference.stderr if difference else 0.0 for difference in found],
            fmt="o",
            capsize=3,
            label=data,
            color=_COLOURS.get(data),
        )
    axis.axhline(0.0, color="#444444", linewidth=0.8)
    axis.set_xticks(range(len(names)), names)
    axis.set_title("AUC less that of sync, in %, mean over seeds and its standard error")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False)
    _save(pyplot, figure, path)


def delay_plot(speeds: Mapping[float, Mapping[str, list[float]]], path: Path) -> None:
    """An SVG: samples per second of each mode against the delay of every message, medians over rounds."""
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    delays = sorted(speeds)
    for mode in next(iter(speeds.values()), {}):
        medians = [statistics.median(speeds[delay][mode]) for delay in delays]
        axis.plot(range(len(delays)), medians, "o-", label=mode, color=_COLOURS.get(mode))
    axis.set_xticks(range(len(delays)), [f"{delay:g} ms" for delay in delays])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("delay added to every message between trainers and servers")
    axis.set_title("samples per second")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    _save(pyplot, figure, path)
