"""Learning rate schedules of embedding tables: how the learning rate changes from step to step."""

from typing import Annotated, Literal

from pydantic import Field

from persia_core.config.base import Section


class Warmup(Section):
    """The start of every schedule.

    In the first `warmup_steps` steps the factor of the learning rate rises in equal steps from
    `warmup_start_factor`; at step `warmup_steps` it is 1, and what the kind says begins. Steps are those of
    the model, over all partitions: they go on after a restore.
    """

    warmup_steps: Annotated[int, Field(ge=0)] = 0
    warmup_start_factor: Annotated[float, Field(ge=0, le=1)] = 0.0


class Constant(Warmup):
    """The factor stays 1."""

    kind: Literal["constant"]


class Linear(Warmup):
    """From 1 to `final_factor` in `decay_steps` equal steps; `final_factor` from then on."""

    kind: Literal["linear"]
    decay_steps: Annotated[int, Field(ge=1)]
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0


class Cosine(Warmup):
    """From 1 to `final_factor` in `decay_steps` steps along half a cosine; `final_factor` from then on."""

    kind: Literal["cosine"]
    decay_steps: Annotated[int, Field(ge=1)]
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0


class Exponential(Warmup):
    """Every step multiplies the factor by `gamma`; it stays at `final_factor` once it is there."""

    kind: Literal["exponential"]
    gamma: Annotated[float, Field(gt=0, le=1)]
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0


class InverseSquareRoot(Warmup):
    """1 / sqrt(1 + t / decay_steps) after t steps, but not below `final_factor`.

    With `decay_steps` equal to `warmup_steps` it is the schedule of the Transformer (Vaswani et al. 2017).
    """

    kind: Literal["inverse_square_root"]
    decay_steps: Annotated[int, Field(ge=1)]
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0


LearningRateSchedule = Annotated[
    Constant | Linear | Cosine | Exponential | InverseSquareRoot, Field(discriminator="kind")
]
