"""Judging hashed partitions and model versions: pure rules, verdicts with reasons."""
