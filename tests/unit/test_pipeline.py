"""The pipelines on real in-process servers: order, bounded staleness, and errors that do not hang.

Every test holds for both: with the embedding worker in the trainer's process, and served by another.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest

from persia_core import _native
from persia_core.data.batch import HashedBatch
from persia_core.embedding.interface import Pipeline
from persia_core.embedding.pipeline import EmbeddingPipeline
from persia_core.embedding.tables import feature_specs, table_specs
from tests.support.served import Numbered, served
from tests.support.small_config import small_config

CONFIG = small_config()
FEATURES = len(CONFIG.id_features)


Open = Callable[
    [_native.EmbeddingWorker, Iterator[Numbered], int], AbstractContextManager[Pipeline[Numbered]]
]


@contextmanager
def elsewhere(
    worker: _native.EmbeddingWorker, batches: Iterator[Numbered], staleness: int
) -> Iterator[Pipeline[Numbered]]:
    with served(worker, staleness, lambda _: batches) as trainer, trainer.pipeline() as pipeline:
        yield pipeline


@pytest.fixture(params=[EmbeddingPipeline, elsewhere], ids=["here", "elsewhere"])
def open_pipeline(request: pytest.FixtureRequest) -> Open:
    found: Open = request.param
    return found


def batches(count: int, bad: int | None = None) -> Iterator[Numbered]:
    """One sample a batch, with one id per feature; batch `bad` holds an id of no table."""
    tables = {table.name: table for table in CONFIG.tables}
    bits = CONFIG.dataset.prefix_bits
    for number in range(count):
        ids = []
        for feature in CONFIG.id_features:
            prefix = 255 if number == bad else tables[feature.table].prefix
            ids.append(np.array([(prefix << (64 - bits)) + number % 7], dtype=np.uint64))
        offsets = [np.array([0, 1], dtype=np.int64)] * FEATURES
        label, dense = np.zeros(1, np.float32), np.zeros((1, len(CONFIG.dense_features)), np.float32)
        yield Numbered(number, HashedBatch(label, dense, ids, offsets))


@pytest.fixture
def worker() -> _native.EmbeddingWorker:
    return make_worker(staleness=3)


def make_worker(staleness: int) -> _native.EmbeddingWorker:
    made = _native.EmbeddingWorker(
        transport="in-process",
        servers=2,
        tables=table_specs(CONFIG),
        features=feature_specs(CONFIG),
        trainer=0,
        trainers=1,
        staleness=staleness,
        combine=False,
        seed=1,
        timeout_s=20.0,
    )
    made.configure()
    return made


def ones(ready_rows: int = 1) -> list[np.ndarray]:
    return [np.ones((ready_rows, CONFIG.table(f.table).dim), np.float32) for f in CONFIG.id_features]


def no_threads_left() -> bool:
    return not any(thread.name.startswith("embedding-") for thread in threading.enumerate())


@pytest.mark.parametrize("staleness", [1, 2, 5])
def test_batches_come_in_order_and_never_more_than_the_bound_are_outstanding(
    open_pipeline: Open, staleness: int
) -> None:
    worker = make_worker(staleness)
    seen = []
    with open_pipeline(worker, batches(40), staleness) as pipeline:
        for ready in pipeline:
            seen.append(ready.batch.number)
            if ready.batch.number % 5 == 4:
                pipeline.discard(ready)
            else:
                pipeline.update(ready, ones(), 1.0)
        pipeline.drain()
    assert seen == list(range(40))
    for server in worker.stats():  # a server refuses what goes beyond the bound, so none was
        assert server["staleness"]["max"] <= staleness  # type: ignore[index]
        assert sum(server["staleness"]["histogram"].values()) <= 40  # type: ignore[index]
        assert not server["errors"]
    assert no_threads_left()


def test_gradients_reach_the_rows_that_were_looked_up_times_scale_and_factor(
    open_pipeline: Open, worker: _native.EmbeddingWorker
) -> None:
    factors = [0.5, 1.0, 0.0, 2.0]
    with open_pipeline(worker, batches(10), 3) as pipeline:
        for ready in pipeline:
            number = np.float32(ready.batch.number)
            gradients = [gradient * number for gradient in ones()]
            pipeline.update(ready, gradients, 0.25, factors)
        pipeline.drain()
    tables = {table.name: at for at, table in enumerate(CONFIG.tables)}
    shares = [feature.table for feature in CONFIG.id_features]
    for batch in batches(7):
        given = sum(number for number in range(10) if number % 7 == batch.number)
        found = worker.lookup(0, batch.data.ids, batch.data.offsets, False).pooled
        for feature, ids, weights in zip(CONFIG.id_features, batch.data.ids, found, strict=True):
            at = tables[feature.table]
            start = _native.initial_rows(table_specs(CONFIG)[at], 1, ids)
            rate = 0.1 * factors[at] * 0.25 * shares.count(feature.table)
            np.testing.assert_allclose(weights, start - rate * given, rtol=1e-6, atol=1e-6)


def test_a_lookup_that_fails_is_raised_where_batches_are_taken(
    open_pipeline: Open, worker: _native.EmbeddingWorker
) -> None:
    taken = []
    with (
        pytest.raises(ValueError, match="prefix"),
        open_pipeline(worker, batches(10, bad=4), 3) as pipeline,
    ):
        for ready in pipeline:
            taken.append(ready.batch.number)
            pipeline.update(ready, ones(), 1.0)
    assert taken == list(range(len(taken)))
    assert len(taken) <= 4
    assert no_threads_left()


def test_an_update_that_fails_is_raised_at_the_latest_by_drain(
    open_pipeline: Open, worker: _native.EmbeddingWorker
) -> None:
    with (
        pytest.raises(ValueError, match="finite"),
        open_pipeline(worker, batches(3), 3) as pipeline,
    ):
        for ready in pipeline:
            pipeline.update(ready, [gradient * np.nan for gradient in ones()], 1.0)
        pipeline.drain()
    assert no_threads_left()


def test_a_reader_that_fails_is_raised_where_batches_are_taken(
    open_pipeline: Open, worker: _native.EmbeddingWorker
) -> None:
    def reading() -> Iterator[Numbered]:
        yield from batches(2)
        raise OSError("the disk is gone")

    with (
        pytest.raises(OSError, match="the disk is gone"),
        open_pipeline(worker, reading(), 3) as pipeline,
    ):
        for ready in pipeline:
            pipeline.update(ready, ones(), 1.0)
    assert no_threads_left()


def test_leaving_early_ends_both_threads(open_pipeline: Open, worker: _native.EmbeddingWorker) -> None:
    with open_pipeline(worker, batches(1000), 3) as pipeline:
        for ready in pipeline:
            assert ready.batch.number == 0
            break
    assert no_threads_left()
