"""Masks and counts of sequences reach a trainer whose embedding worker is in another rank."""

from collections.abc import Iterator

import numpy as np

from persia_core import _native
from persia_core.data.batch import HashedBatch
from persia_core.embedding.tables import feature_specs, table_specs
from tests.support.served import Numbered, served
from tests.support.small_config import small_config

BASE = small_config()
CONFIG = small_config(
    features=[feature.model_dump() for feature in BASE.features[:-1]]
    + [
        {"name": "tags", "kind": "multi-categorical", "table": "tag", "pooling": "sequence", "max_length": 2},
        {"name": "more", "kind": "multi-categorical", "table": "tag", "max_length": 3},
        {"name": "item_tags", "kind": "multi-categorical", "table": "item", "pooling": "sequence"},
    ]
)
ROWS = 5


def batches(count: int) -> Iterator[Numbered]:
    rng = np.random.default_rng(3)
    tables = {table.name: table for table in CONFIG.tables}
    for number in range(count):
        ids, offsets = [], []
        for feature in CONFIG.id_features:
            sizes = rng.integers(0, 5, ROWS)
            first = np.uint64(tables[feature.table].prefix << (64 - CONFIG.dataset.prefix_bits))
            ids.append(first + rng.integers(0, 9, sizes.sum()).astype(np.uint64))
            offsets.append(np.cumsum([0, *sizes]).astype(np.int64))
        dense = np.zeros((ROWS, len(CONFIG.dense_features)), np.float32)
        yield Numbered(number, HashedBatch(np.zeros(ROWS, np.float32), dense, ids, offsets))


def made() -> _native.EmbeddingWorker:
    worker = _native.EmbeddingWorker(
        transport="in-process", servers=2, tables=table_specs(CONFIG), features=feature_specs(CONFIG),
        trainer=0, trainers=1, staleness=1, combine=False, seed=1, timeout_s=20.0,
    )  # fmt: skip
    worker.configure()
    return worker


def test_a_trainer_gets_the_same_sequences_from_a_worker_elsewhere() -> None:
    here, masked = made(), 0
    with served(made(), 1, lambda _: batches(4)) as trainer, trainer.pipeline() as pipeline:
        for ready, batch in zip(pipeline, batches(4), strict=True):
            expected = here.lookup(batch.number, batch.data.ids, batch.data.offsets, True)
            found = ready.lookup
            assert found.truncated_ids == expected.truncated_ids > 0
            for one, other in zip(found.pooled, expected.pooled, strict=True):
                np.testing.assert_array_equal(one, other)
            for mask, wanted in zip(found.masks, expected.masks, strict=True):
                assert (mask is None) == (wanted is None)
                if mask is not None and wanted is not None:
                    assert mask.dtype == np.bool_
                    np.testing.assert_array_equal(mask, wanted)
                    masked += 1
            gradients = [pooled + 1 for pooled in expected.pooled]
            here.update(expected, gradients, 0.5)
            pipeline.update(ready, gradients, 0.5)
        pipeline.drain()
    assert masked == 4 * 2


def test_an_evaluation_elsewhere_gets_the_same_sequences() -> None:
    worker = made()
    (batch,) = batches(1)
    worker.discard(worker.lookup(0, batch.data.ids, batch.data.offsets, True))
    expected = worker.lookup(0, batch.data.ids, batch.data.offsets, False)
    with served(worker, 1, lambda _: iter(())) as trainer:
        found = trainer.tables.read(batch.data.ids, batch.data.offsets)
    for one, other in zip(found.pooled, expected.pooled, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [mask is None for mask in found.masks] == [mask is None for mask in expected.masks]
    for mask, wanted in zip(found.masks, expected.masks, strict=True):
        if mask is not None and wanted is not None:
            np.testing.assert_array_equal(mask, wanted)
