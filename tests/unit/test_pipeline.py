"""The pipeline on real in-process servers: order, bounded staleness, and errors that do not hang."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from persia_core import _native
from persia_core.data.batch import HashedBatch
from persia_core.embedding.pipeline import EmbeddingPipeline
from persia_core.embedding.tables import table_indices, table_specs
from tests.support.small_config import small_config

CONFIG = small_config()
FEATURES = len(CONFIG.id_features)


@dataclass(frozen=True)
class Numbered:
    number: int
    data: HashedBatch


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
        features=table_indices(CONFIG),
        trainer=0,
        trainers=1,
        staleness=staleness,
        sync=False,
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
def test_batches_come_in_order_and_never_more_than_the_bound_are_outstanding(staleness: int) -> None:
    worker = make_worker(staleness)
    seen = []
    with EmbeddingPipeline(worker, batches(40), staleness) as pipeline:
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


def test_a_lookup_that_fails_is_raised_where_batches_are_taken(worker: _native.EmbeddingWorker) -> None:
    taken = []
    with (
        pytest.raises(ValueError, match="prefix"),
        EmbeddingPipeline(worker, batches(10, bad=4), 3) as pipeline,
    ):
        for ready in pipeline:
            taken.append(ready.batch.number)
            pipeline.update(ready, ones(), 1.0)
    assert taken == list(range(len(taken)))
    assert len(taken) <= 4
    assert no_threads_left()


def test_an_update_that_fails_is_raised_at_the_latest_by_drain(worker: _native.EmbeddingWorker) -> None:
    with (
        pytest.raises(ValueError, match="finite"),
        EmbeddingPipeline(worker, batches(3), 3) as pipeline,
    ):
        for ready in pipeline:
            pipeline.update(ready, [gradient * np.nan for gradient in ones()], 1.0)
        pipeline.drain()
    assert no_threads_left()


def test_a_reader_that_fails_is_raised_where_batches_are_taken(worker: _native.EmbeddingWorker) -> None:
    def reading() -> Iterator[Numbered]:
        yield from batches(2)
        raise OSError("the disk is gone")

    with (
        pytest.raises(OSError, match="the disk is gone"),
        EmbeddingPipeline(worker, reading(), 3) as pipeline,
    ):
        for ready in pipeline:
            pipeline.update(ready, ones(), 1.0)
    assert no_threads_left()


def test_leaving_early_ends_both_threads(worker: _native.EmbeddingWorker) -> None:
    with EmbeddingPipeline(worker, batches(1000), 3) as pipeline:
        for ready in pipeline:
            assert ready.batch.number == 0
            break
    assert no_threads_left()
