"""When a run leaves something to go on from: the section `checkpoint` of a configuration."""

from typing import Annotated

from pydantic import Field

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
