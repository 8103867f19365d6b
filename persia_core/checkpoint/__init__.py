"""Checkpoints: what a training run leaves behind so that the next one can go on from it."""
