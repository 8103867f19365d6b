"""The embedding side of a trainer runs at its priority; the dense network keeps its own."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from persia_core import _native
from persia_core.data.batch import HashedBatch
from persia_core.embedding.pipeline import EmbeddingPipeline
from persia_core.embedding.priority import Priority
from persia_core.embedding.tables import feature_specs, table_specs
from tests.support.small_config import small_config

CONFIG = small_config()


@dataclass(frozen=True)
class NoSamples:
    data: HashedBatch


@pytest.mark.parametrize(("priority", "policy"), [("normal", os.SCHED_OTHER), ("idle", os.SCHED_IDLE)])
def test_the_threads_of_a_pipeline_run_at_its_priority(priority: Priority, policy: int) -> None:
    worker = _native.EmbeddingWorker(
        transport="in-process",
        servers=1,
        tables=table_specs(CONFIG),
        features=feature_specs(CONFIG),
        trainer=0,
        trainers=1,
        staleness=2,
        combine=False,
        seed=1,
        timeout_s=20.0,
    )
    worker.configure()
    seen: list[tuple[int, int]] = []

    def batches() -> Iterator[NoSamples]:
        seen.append((threading.get_native_id(), os.sched_getscheduler(0)))
        count = len(CONFIG.id_features)
        ids, offsets = [np.zeros(0, np.uint64)] * count, [np.zeros(1, np.int64)] * count
        dense = np.zeros((0, len(CONFIG.dense_features)), np.float32)
        yield NoSamples(HashedBatch(np.zeros(0, np.float32), dense, ids, offsets))

    with EmbeddingPipeline(worker, batches(), 2, priority=priority) as pipeline:
        for ready in pipeline:
            pipeline.discard(ready)
        pipeline.drain()
    ((thread, found),) = seen
    assert thread != threading.get_native_id()
    assert found == policy
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
