"""Combined, the gradients of all trainers for a batch make one optimizer step."""

import threading
import uuid
from collections import deque

import numpy as np
import pytest
from conftest import MakeWorker
from numpy.typing import NDArray
from reference import id_of, make_table

from persia_core import _native

TABLES = [make_table("t", 1, 4), make_table("m", 2, 2, pooling="mean")]
STEPS = 12
ROWS = 6


def one_batch(
    step: int,
) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.int64]], list[NDArray[np.float32]]]:
    """ROWS samples; the rows of all trainers, one after another."""
    rng = np.random.default_rng(step)
    ids, offsets, gradients = [], [], []
    for table in TABLES:
        lengths = rng.integers(0, 4, ROWS)
        values = rng.integers(0, 9, lengths.sum())
        ids.append(np.array([id_of(table, int(v)) for v in values], dtype=np.uint64))
        offsets.append(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        gradients.append(rng.standard_normal((ROWS, int(str(table["dim"])))).astype(np.float32))
    return ids, offsets, gradients


def share(step: int, trainer: int, trainers: int) -> tuple[list[NDArray], list[NDArray], list[NDArray]]:  # type: ignore[type-arg]
    """The rows of one trainer."""
    ids, offsets, gradients = one_batch(step)
    low, high = trainer * ROWS // trainers, (trainer + 1) * ROWS // trainers
    return (
        [i[o[low] : o[high]] for i, o in zip(ids, offsets, strict=True)],
        [o[low : high + 1] - o[low] for o in offsets],
        [g[low:high] for g in gradients],
    )


def train(worker: _native.EmbeddingWorker, trainer: int, trainers: int, staleness: int) -> None:
    """Gradients that do not depend on what was read; up to `staleness` batches are read ahead."""
    ahead: deque[_native.Lookup] = deque()
    for step in range(STEPS):
        for later in range(step + len(ahead), min(step + staleness, STEPS)):
            ids, offsets, _ = share(later, trainer, trainers)
            ahead.append(worker.lookup(later, ids, offsets, training=True))
        worker.update(ahead.popleft(), share(step, trainer, trainers)[2], 1.0 / trainers)


def final_rows(worker: _native.EmbeddingWorker) -> list[NDArray[np.float32]]:
    ids = [np.array([id_of(table, v) for v in range(9)], dtype=np.uint64) for table in TABLES]
    offsets = [np.arange(10, dtype=np.int64)] * 2
    found = worker.lookup(0, ids, offsets, training=False)
    return found.pooled


@pytest.mark.parametrize(("trainers", "servers", "staleness"), [(2, 1, 1), (3, 2, 1), (2, 2, 4), (3, 1, 2)])
def test_many_trainers_equal_one_with_the_whole_batch(
    make_worker: MakeWorker, trainers: int, servers: int, staleness: int
) -> None:
    single = make_worker(tables=TABLES, combine=True)
    for step in range(STEPS):
        ids, offsets, gradients = one_batch(step)
        single.update(single.lookup(step, ids, offsets, training=True), gradients, 1.0 / trainers)

    group = f"in-process:{uuid.uuid4()}"
    workers = [
        make_worker(
            transport=group,
            tables=TABLES,
            servers=servers,
            trainer=t,
            trainers=trainers,
            staleness=staleness,
            combine=True,
            configure=t == 0,
        )
        for t in range(trainers)
    ]
    failures: list[BaseException] = []

    def run(trainer: int) -> None:
        try:
            train(workers[trainer], trainer, trainers, staleness)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(t,)) for t in range(trainers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for found, expected in zip(final_rows(workers[0]), final_rows(single), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    steps_of_one = sum(t["updates"] for s in single.stats() for t in s["tables"].values())  # type: ignore[attr-defined]
    steps_of_many = sum(t["updates"] for s in workers[0].stats() for t in s["tables"].values())  # type: ignore[attr-defined]
    assert steps_of_many == steps_of_one


def test_what_is_not_combined_is_a_step_per_trainer(make_worker: MakeWorker) -> None:
    group = f"in-process:{uuid.uuid4()}"
    workers = [
        make_worker(transport=group, tables=TABLES, trainer=t, trainers=2, configure=t == 0) for t in range(2)
    ]
    ids = [np.array([id_of(table, 1)], dtype=np.uint64) for table in TABLES]
    offsets = [np.array([0, 1], dtype=np.int64)] * 2
    gradients = [np.ones((1, 4), np.float32), np.ones((1, 2), np.float32)]
    for worker in workers:
        worker.update(worker.lookup(0, ids, offsets, training=True), gradients, 1.0)
    assert workers[0].stats()[0]["tables"]["t"]["updates"] == 2  # type: ignore[index]


def test_a_skipped_batch_counts_as_no_gradient(make_worker: MakeWorker) -> None:
    group = f"in-process:{uuid.uuid4()}"
    workers = [
        make_worker(transport=group, tables=TABLES, trainer=t, trainers=2, combine=True, configure=t == 0)
        for t in range(2)
    ]
    alone = make_worker(tables=TABLES, combine=True)
    ids, offsets, gradients = one_batch(0)
    lookups = [worker.lookup(0, ids, offsets, training=True) for worker in workers]
    discarding = threading.Thread(target=workers[1].discard, args=(lookups[1],))
    discarding.start()
    workers[0].update(lookups[0], gradients, 1.0)
    discarding.join()
    alone.update(alone.lookup(0, ids, offsets, training=True), gradients, 1.0)
    for found, expected in zip(final_rows(workers[0]), final_rows(alone), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert workers[0].stats()[0]["staleness"] == {"max": 1, "histogram": {1: 1}}


def test_a_trainer_that_never_sends_is_a_timeout(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=TABLES, trainer=0, trainers=2, combine=True, timeout_s=0.2)
    ids, offsets, gradients = one_batch(0)
    lookup = worker.lookup(0, ids, offsets, training=True)
    with pytest.raises(_native.TransportError, match=r"server rank 0: UPDATE: no answer within 0\.2"):
        worker.update(lookup, gradients, 1.0)
