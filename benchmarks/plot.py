"""The plot of the store's benchmark: bars for the largest table, Zipf ids, one thread."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.store import Results

_COLOURS = {
    "ours": "#1b6ca8",
    "ours, row-wise": "#4fa3d9",
    "fbgemm": "#e08e45",
    "fbgemm, one feature": "#f2c79a",
    "torch": "#b5b5b5",
    "reference": "#6b8f71",
    "limit": "#d9d9d9",
}
_SHOWN = {
    "ours": ("elementwise", "ours"),
    "reference": ("elementwise", "reference"),
    "limit": ("limit", "limit"),
    "torch": ("torch", "torch"),
    "ours, row-wise": ("row-wise", "ours"),
    "fbgemm": ("row-wise", "fbgemm"),
    "fbgemm, one feature": ("row-wise, one feature", "fbgemm, one feature"),
}


def bars(results: "Results", path: Path) -> None:
    """An SVG: lookups on the left, lookup and update on the right, by dim."""
    import matplotlib as mpl

    mpl.use("svg")
    # No date and no random ids in the file: equal results make equal files. Text stays text.
    mpl.rcParams.update({"svg.hashsalt": "persia", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    rows = max(table_rows for table_rows, _, _ in results)
    dims = sorted({dim for table_rows, dim, _ in results if table_rows == rows})
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, what in zip(axes, ("lookup", "lookup+update"), strict=True):
        width = 0.8 / len(_SHOWN)
        for place, (label, (company, contestant)) in enumerate(_SHOWN.items()):
            heights = []
            for dim in dims:
                samples = results.get((rows, dim, company))
                heights.append((samples and samples.median(contestant, f"zipf {what}")) or 0.0)
            at = [position + (place + 0.5) * width - 0.4 for position in range(len(dims))]
            axis.bar(at, heights, width, label=label, color=_COLOURS[label])
        axis.set_xticks(range(len(dims)), [f"dim {dim}" for dim in dims])
        axis.set_title(f"{what}, million rows per second")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
    axes[1].legend(frameon=False)
    figure.suptitle(f"{rows:,} rows, Zipf(1.05) ids, one thread, float32")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
