"""Contestants do the same work: before anything is timed, their steps are compared with the formulas."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from benchmarks.batches import Batch, ids_of
from benchmarks.contestants import fbgemm, ours, plain, plain_torch
from benchmarks.contestants.table import EPSILON, LEARNING_RATE, ReadableTable
from benchmarks.sizes import FEATURES

ROWS, DIM, IDS, STEPS = 1000, 16, FEATURES * 12, 3

Open = Callable[[], AbstractContextManager[ReadableTable]]


def check_agreement() -> None:
    """Some steps on distinct ids of a small table. Raises SystemExit naming who computes something else."""
    elementwise: dict[str, Open] = {
        "reference": lambda: plain.open_reference(ROWS, DIM, IDS),
        "torch": lambda: plain_torch.open_table(ROWS, DIM, 1),
        "ours": lambda: ours.open_table(ROWS, DIM, False, IDS),
    }
    rowwise: dict[str, Open] = {"ours": lambda: ours.open_table(ROWS, DIM, True, IDS)}
    if not fbgemm.missing():
        rowwise["fbgemm"] = lambda: fbgemm.open_table(ROWS, DIM, IDS, 1)
        rowwise["fbgemm, one feature"] = lambda: fbgemm.open_table(ROWS, DIM, IDS, 1, features=1)
    for name, open_table in elementwise.items():
        _check(f"{name}, elementwise Adagrad", open_table, rowwise=False)
    for name, open_table in rowwise.items():
        features = FEATURES if name == "fbgemm" else 1
        _check(f"{name}, row-wise Adagrad", open_table, rowwise=True, features=features)


def _check(who: str, open_table: Open, rowwise: bool, features: int = 1) -> None:
    rng = np.random.default_rng(3)
    rows = rng.permutation(ROWS)[:IDS]
    batch = Batch(rows=rows, ids=ids_of(rows))
    with open_table() as table:
        expected = table.read(batch).astype(np.float64)
        if len(np.unique(expected, axis=0)) < IDS:
            raise SystemExit(f"{who}: rows are alike before any step, so nothing can be compared")
        accumulated: NDArray[np.float64] = np.zeros((IDS, 1 if rowwise else DIM))
        for _ in range(STEPS):
            gradients = rng.standard_normal((IDS, DIM), dtype=np.float32)
            squares = gradients.astype(np.float64) ** 2
            accumulated += squares.mean(axis=1, keepdims=True) if rowwise else squares
            expected -= LEARNING_RATE * gradients / (np.sqrt(accumulated) + EPSILON)
            # Ids come by feature; a table of several features takes gradients by sample.
            by_sample = gradients.reshape(features, -1, DIM).swapaxes(0, 1).reshape(-1, DIM)
            table.step(batch, np.ascontiguousarray(by_sample))
        if not np.allclose(table.read(batch), expected, rtol=1e-4, atol=1e-6):
            raise SystemExit(f"{who}: weights after {STEPS} steps differ from the formula")
