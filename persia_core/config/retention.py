"""How long what a model leaves is kept, in the object store and on hosts."""

from typing import Annotated

from pydantic import Field

from persia_core.config.base import Section


class Retention(Section):
    """What `persia retire` keeps. Days count back from the newest partition, not from today."""

    versions: Annotated[int, Field(ge=1)] = 10  # the newest model versions, whatever their age
    days: Annotated[int, Field(ge=0)] = 30  # and every version whose partition is at most so old
    champions: Annotated[int, Field(ge=1)] = 5  # and the last champions: what a rollback can go back to
    checkpoint_partitions: Annotated[int, Field(ge=1)] = 7  # newest ones; and those of versions that are kept
    # Hashed and rejected rows and data docs of a dataset, which several models may share; null keeps all.
    partition_days: Annotated[int, Field(ge=1)] | None = None

    # Logs by rank, event files and metrics lines of published runs, in PERSIA_HOME: for days by the clock
    # after publishing (0: they go at once), and MiB of all runs of the model together; the newest stay.
    run_files_days: Annotated[int, Field(ge=0)] = 14
    run_files_mib: Annotated[int, Field(ge=1)] = 1024
