"""The trainer: the step, dense synchronisation, evaluation, metrics."""
