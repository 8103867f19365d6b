"""Learning rate schedules: by what the learning rate of a table is multiplied at a step."""

import math

from persia_core.config.model import ModelConfig
from persia_core.config.schedule import (
    Constant,
    Cosine,
    Exponential,
    InverseSquareRoot,
    LearningRateSchedule,
    Linear,
)


def factor(schedule: LearningRateSchedule, step: int) -> float:
    """The factor of step `step`, from 0 on: a number from 0 to 1, a function of nothing else."""
    if step < schedule.warmup_steps:
        start = schedule.warmup_start_factor
        return start + (1.0 - start) * step / schedule.warmup_steps
    after = step - schedule.warmup_steps
    match schedule:
        case Constant():
            return 1.0
        case Linear(decay_steps=steps, final_factor=final):
            return 1.0 + (final - 1.0) * min(after, steps) / steps
        case Cosine(decay_steps=steps, final_factor=final):
            share = (1.0 + math.cos(math.pi * min(after, steps) / steps)) / 2.0
            return final + (1.0 - final) * share
        case Exponential(gamma=gamma, final_factor=final):
            return max(final, gamma**after)
        case InverseSquareRoot(decay_steps=steps, final_factor=final):
            return max(final, 1.0 / math.sqrt(1.0 + after / steps))


def learning_rate_factors(config: ModelConfig, step: int) -> list[float]:
    """The factor of every table at step `step`, in the order of the configuration; 1 without a schedule."""
    schedules = [table.learning_rate_schedule for table in config.tables]
    return [1.0 if schedule is None else factor(schedule, step) for schedule in schedules]
