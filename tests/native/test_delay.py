"""A simulated network delay changes when replies come, and nothing else."""

import time
from typing import Any

import numpy as np
import pytest
from conftest import MakeWorker
from reference import id_of, make_table

from persia_core import _native

TABLES = [make_table("a", 1, 3), make_table("b", 2, 4, optimizer={"kind": "sgd", "learning_rate": 0.1})]
DELAY_S = 0.05


def train(worker: _native.EmbeddingWorker) -> list[Any]:
    """All that a worker gets to see in a few steps, and how long each request took."""
    rng = np.random.default_rng(4)
    seen: list[Any] = []
    for step in range(6):
        ids = [
            np.array([id_of(table, int(value)) for value in rng.integers(0, 20, 12)], np.uint64)
            for table in TABLES
        ]
        offsets = [np.arange(0, 13, 2, dtype=np.int64)] * 2
        found = worker.lookup(step, ids, offsets, training=step != 3)
        seen += [found.unique_ids, found.missing_ids, *[pooled.tolist() for pooled in found.pooled]]
        if step != 3:
            worker.update(found, [2 * pooled for pooled in found.pooled], 0.5)
    seen += worker.stats()
    return seen


def test_what_a_worker_sees_does_not_depend_on_the_delay(make_worker: MakeWorker) -> None:
    assert train(make_worker(tables=TABLES, servers=3, delay_s=0.003)) == train(
        make_worker(tables=TABLES, servers=3)
    )


def test_no_request_is_answered_before_the_delay(make_worker: MakeWorker) -> None:
    start = time.monotonic()
    worker = make_worker(tables=TABLES, servers=2, delay_s=DELAY_S)
    assert time.monotonic() - start >= DELAY_S  # CONFIGURE
    ids = [np.array([id_of(table, 1)], np.uint64) for table in TABLES]
    offsets = [np.array([0, 1], np.int64)] * 2
    for training in (False, True):
        start = time.monotonic()
        found = worker.lookup(0, ids, offsets, training=training)
        assert time.monotonic() - start >= DELAY_S
    for give_back in (lambda: worker.update(found, found.pooled, 1.0), worker.stats):
        start = time.monotonic()
        give_back()
        assert time.monotonic() - start >= DELAY_S


def test_a_delay_above_the_timeout_gets_no_answer(make_worker: MakeWorker) -> None:
    with pytest.raises(_native.TransportError, match=r"CONFIGURE: no answer within 0\.01 s"):
        make_worker(tables=TABLES, delay_s=1000.0, timeout_s=0.01)


@pytest.mark.parametrize("delay", [-0.001, float("nan"), float("inf"), 1e9])
def test_a_delay_that_is_none_is_refused(make_worker: MakeWorker, delay: float) -> None:
    with pytest.raises(ValueError, match="delay_s"):
        make_worker(tables=TABLES, delay_s=delay)
