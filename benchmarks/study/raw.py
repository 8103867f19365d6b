"""The raw days of the study, from the files that its data sets are delivered as. None of them is shipped."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from persia_core.data.adult import TEST_DS, TRAIN_DS, write_adult
from persia_core.data.days import raw_day
from persia_core.data.synthetic import synthesize

if TYPE_CHECKING:
    import pandas as pd

CRITEO_TEST_SHARE = 6  # one line in six
YOOCHOOSE_SHARE = 6  # one session in six
SYNTHETIC_ROWS, SYNTHETIC_SMALL_ROWS = (150_000, 50_000), (3_000, 1_000)  # of the first day and the second
_NUMBERS = [f"I{i}" for i in range(1, 14)]
_CATEGORIES = [f"C{i}" for i in range(1, 27)]

Write = Callable[[Path, Path, bool], None]  # from the folder of all data sets, into `<out>/ds=...`; small


def adult(source: Path, out: Path, small: bool) -> None:
    """adult.data as one day, adult.test as the next."""
    del small
    write_adult(source / "adult" / "adult.data", source / "adult" / "adult.test", out)


def criteo(source: Path, out: Path, small: bool) -> None:
    """Criteo Kaggle lines: five in six to train on, the rest to test on, by a hash of the line.

    Numbers are delivered as log(1 + value); those below 0, of which I2 has some, count as 0.
    """
    import numpy as np
    import pandas as pd

    del small
    names = ["label", *_NUMBERS, *_CATEGORIES]
    path = source / "criteo" / "criteo_36k.tsv.gz"
    frame = pd.read_csv(path, sep="\t", header=None, names=names, dtype=str, keep_default_na=False)
    lines = frame.agg("\t".join, axis=1)
    test = lines.map(lambda line: zlib.crc32(line.encode()) % CRITEO_TEST_SHARE == 0)
    for name in _NUMBERS:
        frame[name] = np.log1p(pd.to_numeric(frame[name]).clip(lower=0)).round(6)
    _write(frame[~test], out, "2014-06-01", "criteo")
    _write(frame[test], out, "2014-06-02", "criteo")


def yoochoose(source: Path, out: Path, small: bool) -> None:
    """Seven days of clicks, of which one session in YOOCHOOSE_SHARE, by a hash of its number.

    An item 0 is none. `step` names the item together with the one before it.
    """
    import pandas as pd

    del small
    for day, ds in enumerate(YOOCHOOSE_DAYS):
        frame = pd.read_csv(source / "yoochoose" / f"day_{day:02d}.csv.gz", dtype=str)
        _write(sampled_sessions(frame), out, ds, "yoochoose")


def sampled_sessions(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Whole sessions of a day; columns as delivered, and `step`."""
    chosen = {s for s in frame["session"].unique() if zlib.crc32(s.encode()) % YOOCHOOSE_SHARE == 0}
    kept = frame[frame["session"].isin(chosen)].copy()
    kept["step"] = kept["last"] + ">" + kept["item"]
    for name in ("last", "last2", "first"):
        kept[name] = kept[name].mask(kept[name] == "0", "")
    return kept


def synthetic(source: Path, out: Path, small: bool) -> None:
    """Two days of the synthetic click log."""
    del source
    first, second = SYNTHETIC_SMALL_ROWS if small else SYNTHETIC_ROWS
    synthesize(out, second, 2, seed=1, first_day=SYNTHETIC_DAYS[0], first_day_rows=first)


def _write(frame: "pd.DataFrame", out: Path, ds: str, name: str) -> None:
    with raw_day(out, ds, name) as (_, packed):
        packed.write(frame.to_csv(index=False, lineterminator="\n").encode())


ADULT_DAYS = (TRAIN_DS, TEST_DS)
CRITEO_DAYS = ("2014-06-01", "2014-06-02")  # days in name only
YOOCHOOSE_DAYS = tuple(f"2014-04-0{day}" for day in range(1, 8))
SYNTHETIC_DAYS = ("2026-01-01", "2026-01-02")
