"""What the worker and the servers refuse, and what they count."""

from collections.abc import Callable

import numpy as np
import pytest
from conftest import MakeWorker
from numpy.typing import NDArray
from reference import id_of, make_table

from persia_core import _native

TABLE = make_table("t", 1, 3)


def batch(*values: int) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.int64]]]:
    """One sample per value."""
    ids = np.array([id_of(TABLE, v) for v in values], dtype=np.uint64)
    return [ids], [np.arange(len(values) + 1, dtype=np.int64)]


def ones(rows: int) -> list[NDArray[np.float32]]:
    return [np.ones((rows, 3), np.float32)]


def test_the_staleness_bound_is_refused_by_the_servers(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=[TABLE], staleness=3, servers=2)
    lookups = [worker.lookup(step, *batch(step), training=True) for step in range(3)]
    with pytest.raises(_native.ServerError, match="server rank 0: LOOKUP: STALENESS_EXCEEDED"):
        worker.lookup(3, *batch(3), training=True)
    worker.lookup(0, *batch(3), training=False)  # evaluation takes no permit
    worker.update(lookups[1], ones(1), 1.0)
    worker.discard(lookups[0])
    worker.update(lookups[2], ones(1), 1.0)
    worker.update(worker.lookup(4, *batch(3), training=True), ones(1), 1.0)
    for stats in worker.stats():
        assert stats["staleness"] == {"max": 3, "histogram": {3: 1, 1: 2}}
        assert stats["errors"] == {"STALENESS_EXCEEDED": 1}


def test_batches_must_increase(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=[TABLE], staleness=2)
    worker.lookup(7, *batch(1), training=True)
    with pytest.raises(_native.ServerError, match="BATCH_ORDER"):
        worker.lookup(7, *batch(1), training=True)


def test_a_lookup_is_returned_once(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=[TABLE])
    lookup = worker.lookup(0, *batch(1), training=True)
    worker.update(lookup, ones(1), 1.0)
    with pytest.raises(ValueError, match="already"):
        worker.update(lookup, ones(1), 1.0)
    with pytest.raises(ValueError, match="already"):
        worker.discard(lookup)
    with pytest.raises(ValueError, match="no training lookup"):
        worker.update(worker.lookup(0, *batch(1), training=False), ones(1), 1.0)


@pytest.mark.parametrize(
    ("gradients", "scale"),
    [
        ([np.array([[1, np.nan, 1]], np.float32)], 1.0),
        ([np.array([[1, np.inf, 1]], np.float32)], 1.0),
        ([np.full((1, 3), 3e38, np.float32)], 10.0),
        ([np.ones((1, 3), np.float32)], float("nan")),
        ([np.ones((1, 4), np.float32)], 1.0),
        ([np.ones((2, 3), np.float32)], 1.0),
        ([np.ones(3, np.float32)], 1.0),
        ([], 1.0),
        ([np.ones((1, 3), np.float32)] * 2, 1.0),
    ],
)
def test_a_bad_gradient_is_not_sent(
    make_worker: MakeWorker, gradients: list[NDArray[np.float32]], scale: float
) -> None:
    worker = make_worker(tables=[TABLE])
    lookup = worker.lookup(0, *batch(1), training=True)
    before = lookup.pooled[0].copy()
    with pytest.raises(ValueError):
        worker.update(lookup, gradients, scale)
    assert "UPDATE" not in worker.stats()[0]["requests"]  # type: ignore[operator]
    np.testing.assert_array_equal(worker.lookup(0, *batch(1), training=False).pooled[0], before)
    worker.update(lookup, ones(1), 1.0)  # the permit is still held: the batch can be sent right


@pytest.mark.parametrize(
    ("gradient", "scale"),
    [
        ([1, np.nan, 1], 1.0),
        ([1, -np.inf, 1], 1.0),
        ([3e38, 1, 1], 10.0),  # finite, but not its sum
    ],
)
def test_the_gradients_of_every_batch_are_checked_before_they_are_sent(
    make_worker: MakeWorker, gradient: list[float], scale: float
) -> None:
    worker = make_worker(tables=[TABLE])
    for number in range(4):
        lookup = worker.lookup(number, *batch(1), training=True)
        with pytest.raises(ValueError, match="is not finite"):
            worker.update(lookup, [np.array([gradient], np.float32)], scale)
        assert worker.stats()[0]["requests"].get("UPDATE", 0) == number  # type: ignore[attr-defined]
        worker.update(lookup, ones(1), 1.0)
    assert not worker.stats()[0]["errors"]  # the server saw none of them


@pytest.mark.parametrize(
    ("ids", "offsets"),
    [
        ([id_of(TABLE, 1)], [0]),
        ([id_of(TABLE, 1)], [1, 1]),
        ([id_of(TABLE, 1)], [0, 2]),
        ([id_of(TABLE, 1)], [0, 0]),
        ([id_of(TABLE, 1)], [0, 2, 1]),
        ([id_of(TABLE, 1)], []),
        ([5], [0, 1]),
    ],
)
def test_a_bad_batch_is_not_sent(make_worker: MakeWorker, ids: list[int], offsets: list[int]) -> None:
    worker = make_worker(tables=[TABLE])
    with pytest.raises(ValueError, match="feature 0"):
        worker.lookup(0, [np.array(ids, np.uint64)], [np.array(offsets, np.int64)], training=True)
    assert "LOOKUP" not in worker.stats()[0]["requests"]  # type: ignore[operator]


def test_pooled_rows_belong_to_the_caller(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=[TABLE])
    lookup = worker.lookup(0, *batch(1, 2), training=True)
    pooled = lookup.pooled[0]
    assert pooled.dtype == np.float32
    assert pooled.flags.c_contiguous
    assert pooled.flags.writeable
    original = pooled.copy()
    pooled[:] = 7
    del lookup
    assert (pooled == 7).all()
    np.testing.assert_array_equal(worker.lookup(0, *batch(1, 2), training=False).pooled[0], original)


def test_statistics_count_what_happened(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=[TABLE])
    worker.update(worker.lookup(0, *batch(1, 1, 2), training=True), ones(3), 1.0)
    worker.lookup(0, *batch(1, 9), training=False)
    stats = worker.stats()[0]
    table = stats["tables"]["t"]  # type: ignore[index]
    assert stats["server"] == 0
    assert table.pop("bytes") > 0
    assert table == {
        "rows": 2, "lookups": 4, "hits": 1, "misses": 3, "created": 2, "updates": 2, "updates_missing": 0,
        "not_admitted": 0, "evicted": 0, "expired": 0, "saturated": 0,
    }  # fmt: skip
    assert stats["requests"] == {"CONFIGURE": 1, "LOOKUP": 2, "UPDATE": 1, "STATS": 1}


def test_configuring_twice_must_say_the_same(make_worker: MakeWorker) -> None:
    worker = make_worker(transport="in-process:twice", tables=[TABLE], trainers=2)
    worker.configure()
    with pytest.raises(_native.ServerError, match="CONFIGURE: BAD_CONFIG"):
        make_worker(transport="in-process:twice", tables=[TABLE], trainers=2, trainer=1, seed=6)


def test_a_second_worker_of_a_trainer_is_refused(make_worker: MakeWorker) -> None:
    first = make_worker(transport="in-process:second", tables=[TABLE])
    with pytest.raises(_native.ServerError, match="REPLAYED"):
        make_worker(transport="in-process:second", tables=[TABLE])
    first.stats()


def test_nothing_works_before_configure_or_after_shutdown(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=[TABLE], configure=False)
    with pytest.raises(_native.ServerError, match="NOT_CONFIGURED"):
        worker.lookup(0, *batch(1), training=True)
    worker.configure()
    worker.shutdown()
    with pytest.raises(_native.TransportError, match="server rank 0: LOOKUP: the server has ended"):
        worker.lookup(0, *batch(1), training=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"servers": 0}, "servers"),
        ({"transport": "pigeon"}, "transport"),
        ({"trainer": 1}, "trainer"),
        ({"staleness": 0}, "staleness"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"features": [1]}, "feature"),
        ({"tables": [TABLE, TABLE]}, "twice"),
        ({"tables": [TABLE, make_table("u", 1, 2)]}, "prefix"),
    ],
)
def test_wrong_arguments_are_named(
    make_worker: Callable[..., _native.EmbeddingWorker], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_worker(**({"tables": [TABLE]} | changes))
