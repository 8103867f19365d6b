"""The logical day of a partition, for tables that evict rows by age."""

from datetime import date

from persia_core.config import ModelConfig
from persia_core.errors import ConfigError

_EPOCH = date(1970, 1, 1)


def logical_day(config: ModelConfig, ds: str) -> int | None:
    """The days from 1970-01-01 to the date that `ds` is; None if no table evicts by age.

    Raises ConfigError when a table does, and `ds` is no date from 1970 on.
    """
    aging = [table.name for table in config.tables if table.eviction is not None]
    if not aging:
        return None
    try:
        day = (date.fromisoformat(ds) - _EPOCH).days
    except ValueError:
        day = -1
    if day < 0:
        raise ConfigError(
            f"table {aging[0]}: eviction.max_age_days counts days, and partition {ds!r} is no date from "
            "1970-01-01 on",
            "name partitions by their date (YYYY-MM-DD), or take eviction out of the table",
        )
    return day
