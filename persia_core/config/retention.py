"""How long what a model leaves in the object store is kept."""

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
