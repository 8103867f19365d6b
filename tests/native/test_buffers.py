"""One buffer per table: the activations of its features side by side, in memory of ours or of the caller."""

import gc
from typing import Any

import numpy as np
import pytest
from conftest import MakeWorker
from numpy.typing import NDArray
from reference import id_of, make_table

TABLES = [
    make_table("item", 1, 3),
    make_table("tag", 2, 5, pooling="mean"),
    make_table("unused", 3, 2),
]
FEATURES: list[Any] = [
    0,
    {"table": 1, "pooling": "mean", "length": 0},
    {"table": 0, "pooling": "sequence", "length": 2},
    1,
]
ROWS = 4
WIDTHS = [3, 5, 6, 5]  # floats per sample of each feature
OF_TABLE = [[0, 2], [1, 3], []]


def batch(seed: int, rows: int = ROWS) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.int64]]]:
    rng = np.random.default_rng(seed)
    ids, offsets = [], []
    for table in (0, 1, 0, 1):
        sizes = rng.integers(0, 4, rows)
        values = rng.integers(0, 9, sizes.sum())
        ids.append(np.array([id_of(TABLES[table], int(value)) for value in values], dtype=np.uint64))
        offsets.append(np.cumsum([0, *sizes]).astype(np.int64))
    return ids, offsets


@pytest.mark.parametrize("rows", [ROWS, 1, 0])
def test_the_features_of_a_table_lie_side_by_side_in_its_buffer(make_worker: MakeWorker, rows: int) -> None:
    worker = make_worker(tables=TABLES, features=FEATURES, servers=2)
    found = worker.lookup(0, *batch(1, rows), training=True)
    assert worker.buffer_floats(rows) == [rows * 9, rows * 10, 0]
    assert [buffer.shape for buffer in found.buffers] == [(rows * 9,), (rows * 10,), (0,)]
    for table, features in enumerate(OF_TABLE):
        flat = [found.pooled[f].ravel() for f in features]
        np.testing.assert_array_equal(found.buffers[table], np.concatenate([*flat, np.zeros(0)]))
    for f, (table, start, shape) in enumerate(found.layout):
        assert shape == found.pooled[f].shape
        part = found.buffers[table][start : start + rows * WIDTHS[f]].reshape(shape)
        np.testing.assert_array_equal(part, found.pooled[f])
        assert part.size == 0 or np.shares_memory(part, found.pooled[f])


def test_a_view_outlives_its_lookup(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=TABLES, features=FEATURES)
    found = worker.lookup(0, *batch(1), training=True)
    kept, copies = (
        [*found.pooled, *found.buffers],
        [array.copy() for array in [*found.pooled, *found.buffers]],
    )
    worker.update(found, [np.ones_like(pooled) for pooled in found.pooled], 1.0)
    del found
    gc.collect()
    for step in range(1, 20):
        worker.discard(worker.lookup(step, *batch(step), training=True))
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_lookup_writes_into_the_buffers_it_is_given(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=TABLES, features=FEATURES, servers=2)
    ids, offsets = batch(1)
    worker.discard(worker.lookup(0, ids, offsets, training=True))
    expected = [buffer.copy() for buffer in worker.lookup(0, ids, offsets, training=False).buffers]
    floats = worker.buffer_floats(ROWS)
    mine = [np.full(size + extra, 7, np.float32) for size, extra in zip(floats, (0, 3, 1), strict=True)]
    found = worker.lookup(0, ids, offsets, training=False, buffers=mine)
    for table, size in enumerate(floats):
        np.testing.assert_array_equal(mine[table][:size], expected[table])
        assert (mine[table][size:] == 7).all()
        assert found.buffers[table].shape == (size,)
        assert size == 0 or np.shares_memory(found.buffers[table], mine[table])
    # They live as long as what was looked up, and no longer.
    address = mine[0].ctypes.data
    view = found.pooled[0]
    del mine, found
    gc.collect()
    assert view.ctypes.data == address
    np.testing.assert_array_equal(view.ravel(), expected[0][: view.size])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda buffers: buffers[:2], ValueError),
        (lambda _: [], ValueError),
        (lambda buffers: [buffers[0][:-1], *buffers[1:]], ValueError),
        (lambda buffers: [buffers[0].astype(np.float64), *buffers[1:]], TypeError),
        (lambda buffers: [np.zeros(2 * buffers[0].size, np.float32)[::2], *buffers[1:]], TypeError),
        (lambda buffers: [buffers[0].reshape(ROWS, -1), *buffers[1:]], TypeError),
    ],
)
def test_a_buffer_that_cannot_be_written_into_is_refused(
    make_worker: MakeWorker, change: Any, error: type[Exception]
) -> None:
    worker = make_worker(tables=TABLES, features=FEATURES)
    buffers = [np.zeros(size, np.float32) for size in worker.buffer_floats(ROWS)]
    with pytest.raises(error):
        worker.lookup(0, *batch(1), training=True, buffers=change(buffers))
    assert worker.stats()[0]["requests"].get("LOOKUP", 0) == 0  # type: ignore[attr-defined]
    worker.lookup(0, *batch(1), training=True, buffers=buffers)


def test_a_read_only_buffer_is_refused(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=TABLES, features=FEATURES)
    buffers = [np.zeros(size, np.float32) for size in worker.buffer_floats(ROWS)]
    buffers[0].flags.writeable = False
    with pytest.raises((TypeError, ValueError, BufferError)):
        worker.lookup(0, *batch(1), training=True, buffers=buffers)
    assert (buffers[0] == 0).all()


def test_gradients_may_be_views_of_one_buffer(make_worker: MakeWorker) -> None:
    workers = [make_worker(tables=TABLES, features=FEATURES) for _ in range(2)]
    rng = np.random.default_rng(3)
    gathered: list[list[NDArray[np.float32]]] = []
    flat = [rng.standard_normal(size).astype(np.float32) for size in workers[0].buffer_floats(ROWS)]
    for array in flat:
        array.flags.writeable = False
    for position, worker in enumerate(workers):
        found = worker.lookup(0, *batch(1), training=True)
        views = []
        for table, start, shape in found.layout:
            part = flat[table][start : start + int(np.prod(shape))].reshape(shape)
            views.append(part if position == 0 else part.copy())
        worker.update(found, views, 0.5)
        gathered.append([pooled.copy() for pooled in worker.lookup(0, *batch(2), training=False).pooled])
    for one, other in zip(*gathered, strict=True):
        np.testing.assert_array_equal(one, other)
