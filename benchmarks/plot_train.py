"""The plot of the training benchmark: bars of samples per second by contestant and dim."""

from pathlib import Path

from benchmarks.harness import Samples

_COLOURS = {"dense part alone": "#6b8f71", "ours": "#1b6ca8", "fbgemm": "#e08e45", "torch": "#b5b5b5"}


def bars(results: dict[int, Samples], path: Path) -> None:
    """An SVG: one group of bars per dim."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "persia", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    width = 0.8 / len(_COLOURS)
    for place, (name, colour) in enumerate(_COLOURS.items()):
        heights = [(samples.median(name, "samples/s") or 0.0) / 1000 for samples in results.values()]
        at = [position + (place + 0.5) * width - 0.4 for position in range(len(results))]
        axis.bar(at, heights, width, label=name, color=colour)
    axis.set_xticks(range(len(results)), [f"dim {dim}" for dim in results])
    axis.set_title("training, thousand samples per second")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
