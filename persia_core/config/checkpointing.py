"""When a run leaves something to go on from: the section `checkpoint` of a configuration."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from persia_core.config.base import Section


class Checkpointing(Section):
    """Cuts within a partition, from which an interrupted run goes on; a cut is due by whichever comes first.

    With both null there are none, and an interrupted run starts again from its parent checkpoint.
    """

    every_seconds: Annotated[float, Field(gt=0)] | None = 600.0  # of training since the last cut began
    every_steps: Annotated[int, Field(ge=1)] | None = None  # at steps that are multiples of it
    # Complete ones, beside those that they follow; a second one in case that the newest is damaged.
    keep: Annotated[int, Field(ge=1)] = 2
    # Every so many cuts one holds all rows, a base; those between are deltas, of the rows that have changed
    # since the cut before. A base comes earlier where the deltas have come to its size. 1: no deltas.
    base_every: Annotated[int, Field(ge=1, le=1000)] = 8
    # Who makes the next base: the servers, which write all rows from memory; or with compact a process that
    # lays the files of base and deltas over each other, for which the servers write another delta only.
    compact: bool = False
    # Tables are written from a copy-on-write snapshot while training goes on, for which a server may need
    # their memory twice at the worst; false: training stands still until they are written.
    snapshot: bool = True
    upload: bool = False  # to the object store too, so that a retry on another host goes on from there
    # A directory in memory, such as /dev/shm, where embedding servers keep their tables as of the last cut. A
    # retry on the same host takes them from there. They take their memory twice.
    warm_restart: str | None = None

    @field_validator("warm_restart")
    @classmethod
    def _is_a_directory_by_its_whole_path(cls, path: str | None) -> str | None:
        if path is not None and not PurePosixPath(path).is_absolute():
            raise ValueError("warm_restart is the whole path of a directory, such as /dev/shm")
        return path

    @model_validator(mode="after")
    def _a_warm_restart_is_from_a_cut(self) -> "Checkpointing":
        if self.warm_restart is None:
            return self
        if not self.snapshot or (self.every_seconds is None and self.every_steps is None):
            raise ValueError(
                "warm_restart keeps the tables of cuts: it needs snapshot, and every_seconds or every_steps"
            )
        return self
