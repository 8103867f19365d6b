"""The demo's table, and the two comparisons that it must stand up to."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Day:
    """One line: counts of samples, metrics on the day *before* training on it (None on a cold start).

    rows_in are those of the raw partition: rejected when it was hashed, skipped in training, or trained on.
    """

    ds: str
    rows_in: int
    rows_rejected: int
    rows_trained: int
    rows_skipped: int
    auc: float | None
    log_loss: float | None
    item_rate_auc: float | None
    stopped_auc: float | None
    staleness_max: int | None
    table_rows: int
    version: str
    champion: str | None


COLUMNS = (
    "day",
    "rows in",
    "rejected",
    "trained",
    "skipped",
    "AUC",
    "log-loss",
    "AUC item rate",
    "AUC stopped",
    "staleness",
    "table rows",
    "version",
    "champion",
)


def render(days: Sequence[Day]) -> str:
    """The table as plain text, columns aligned, with a line on what each unusual column means."""
    cells = [COLUMNS, *(_cells(day) for day in days)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = (
        "AUC, log-loss   of the model kept up to the day before, on the day, before training on it",
        "AUC item rate   of the historical click rate per item, on the same rows (the baseline to beat)",
        "AUC stopped     of the model that stopped learning at the bootstrap, on the same rows",
        "staleness       largest number of batches per trainer between rows read and gradients applied",
    )
    return "\n".join([*lines, "", *(f"  {note}" for note in notes)])


def shortcomings(days: Sequence[Day]) -> list[str]:
    """What does not hold: every row accounted for and AUC above the baseline on every day; on the last

    one, AUC not below that of the model that stopped.
    """
    found = []
    for day in days:
        accounted = day.rows_rejected + day.rows_trained + day.rows_skipped
        if accounted != day.rows_in:
            found.append(f"{day.ds}: {day.rows_in} rows came in and {accounted} are accounted for")
        if day.auc is None or day.item_rate_auc is None:
            found.append(f"{day.ds}: the AUC or its baseline is not defined")
        elif day.auc <= day.item_rate_auc:
            found.append(f"{day.ds}: AUC {day.auc:.4f} does not beat the item rate's {day.item_rate_auc:.4f}")
    if days:
        last = days[-1]
        if last.auc is None or last.stopped_auc is None:
            found.append(f"{last.ds}: the AUC of the model that stopped is not defined")
        elif last.auc < last.stopped_auc:
            found.append(
                f"{last.ds}: the model kept up daily (AUC {last.auc:.4f}) is worse than the one that "
                f"stopped at the bootstrap ({last.stopped_auc:.4f})"
            )
    return found


def _cells(day: Day) -> tuple[str, ...]:
    champion = "this version" if day.champion == day.version else (day.champion or "-")
    return (
        day.ds,
        f"{day.rows_in:,}",
        f"{day.rows_rejected:,}",
        f"{day.rows_trained:,}",
        f"{day.rows_skipped:,}",
        _number(day.auc),
        _number(day.log_loss),
        _number(day.item_rate_auc),
        _number(day.stopped_auc),
        "-" if day.staleness_max is None else str(day.staleness_max),
        f"{day.table_rows:,}",
        day.version,
        champion,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
