"""The demo's data: MovieLens-100K, or the synthetic click log where no registry can be reached."""

import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from persia_core.demo.baseline import Click

SYNTHETIC_CONFIG = "configs/synthetic_dlrm.yaml"
MOVIELENS_CONFIG = "configs/movielens_dlrm.yaml"
SYNTHETIC_BOOTSTRAP_ROWS = 60_000
SYNTHETIC_ROWS = 6_000  # per later day


@dataclass(frozen=True)
class DemoData:
    """The raw partitions in order, the first being the bootstrap, and the configuration that reads them."""

    title: str
    config: str
    item_column: str
    days: dict[str, Path]  # ds -> gzip CSV


def prepare(work: Path, later_days: int, say: Callable[[str], None]) -> DemoData:
    """The bootstrap and `later_days` partitions as files under `work`."""
    from persia_core.data.movielens import WEEKS, MovieLensUnreachable, fetch_movielens, write_movielens

    later_days = min(later_days, len(WEEKS))
    try:
        source = fetch_movielens(work / "cache")
    except MovieLensUnreachable as error:
        say(f"MovieLens-100K cannot be had: {error.what}")
        say("Using the synthetic click log instead.")
        return _synthetic(work, later_days)
    written = write_movielens(source, work / "movielens")[: later_days + 1]
    return DemoData(
        title="MovieLens-100K: does this user rate this film 4 or better? Partitions are weeks, because days "
        "are too thin\n  (as few as 36 ratings).",
        config=MOVIELENS_CONFIG,
        item_column="item_id",
        days={day.ds: day.path for day in written},
    )


def clicks(path: Path, item_column: str) -> list[Click]:
    """(item, label) of every row of a raw partition."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [(row[item_column], int(row["label"])) for row in csv.DictReader(file)]


def _synthetic(work: Path, later_days: int) -> DemoData:
    from persia_core.data.synthetic import synthesize

    days = synthesize(
        work / "synthetic", SYNTHETIC_ROWS, later_days + 1, seed=42, first_day_rows=SYNTHETIC_BOOTSTRAP_ROWS
    )
    return DemoData(
        title="The synthetic click log, drawn from a planted model (seed 42). Partitions are days.",
        config=SYNTHETIC_CONFIG,
        item_column="item_id",
        days={day.ds: day.path for day in days},
    )
