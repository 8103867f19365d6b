"""Raw days on local disk: one gzip CSV per `ds=...` directory, the same bytes for the same rows."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from persia_core.handoff.layout import check_ds


@dataclass(frozen=True)
class DaySummary:
    """One raw day that was written. `best_auc` is that of the true probabilities, where known."""

    ds: str
    path: Path
    rows: int
    positives: int
    best_auc: float | None = None

    @property
    def label_rate(self) -> float | None:
        """Share of positives; None without rows."""
        return self.positives / self.rows if self.rows else None


@contextmanager
def raw_day(out: Path, ds: str, name: str) -> Iterator[tuple[Path, BinaryIO]]:
    """Open `<out>/ds=<ds>/<name>.csv.gz` for writing CSV bytes; it appears when the block ends well.

    Neither time nor file name goes into the gzip header, so equal rows give equal bytes.
    """
    path = out / f"ds={check_ds(ds)}" / f"{name}.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=3, mtime=0) as packed,
        ):
            yield path, cast("BinaryIO", packed)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
