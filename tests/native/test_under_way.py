"""Several lookups and updates on their way at once: what they read, and what becomes of their errors."""

import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from conftest import MakeWorker
from prefixes import Numbered, Prefixes, numbered
from reference import ReferenceTable, make_table

from persia_core import _native
from persia_core.embedding.pipeline import EmbeddingPipeline

SEED = 5  # of the workers that make_worker makes
TABLES = [make_table("a", 1, 3), make_table("b", 2, 4, optimizer={"kind": "sgd", "learning_rate": 0.1})]


def batches(count: int, seed: int) -> list[Numbered]:
    rng = np.random.default_rng(seed)
    return [numbered(TABLES, n, [rng.integers(0, 12, 8), rng.integers(0, 12, 8)]) for n in range(count)]


def gradients_of(batch: Numbered) -> list[np.ndarray]:
    rng = np.random.default_rng(1000 + batch.number)
    return [
        rng.standard_normal((len(batch.data.labels), int(table["dim"]))).astype(np.float32)
        for table in TABLES
    ]


def no_threads_left() -> bool:
    return not any(thread.name.startswith("embedding-") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("seed", "staleness", "servers"), [(1, 1, 1), (2, 2, 3), (3, 3, 2), (4, 5, 1), (5, 8, 2)]
)
def test_any_order_of_beginning_and_finishing_equals_the_order_of_beginning(
    make_worker: MakeWorker, seed: int, staleness: int, servers: int
) -> None:
    # Servers in this process take requests in the order in which one thread sends them, over all channels.
    rng = np.random.default_rng(seed)
    worker = make_worker(tables=TABLES, staleness=staleness, servers=servers)
    oracle = [ReferenceTable(table, SEED) for table in TABLES]
    waiting = batches(60, seed)
    asked: list[tuple[Numbered, Any, list[np.ndarray]]] = []
    here: list[tuple[Numbered, Any]] = []
    sent: list[Any] = []
    outstanding = 0  # at the servers
    histogram: dict[int, int] = {}
    most_under_way = 0
    while waiting or asked or here or sent:
        most_under_way = max(most_under_way, len(asked), len(sent))
        permits = staleness - len(asked) - len(here) - len(sent)
        choices = [name for name, possible in (
            ("ask", waiting and permits > 0), ("collect", asked), ("give back", here), ("acknowledge", sent)
        ) if possible]  # fmt: skip
        match rng.choice(choices):
            case "ask":
                batch = waiting.pop(0)
                data = batch.data
                pending = worker.begin_lookup(batch.number, data.ids, data.offsets, True)
                pairs = zip(oracle, data.ids, data.offsets, strict=True)
                asked.append((batch, pending, [table.pool(ids, at, create=True) for table, ids, at in pairs]))
                outstanding += 1
            case "collect":
                batch, pending, expected = asked.pop(rng.integers(len(asked)))
                found = worker.finish_lookup(pending)
                for one, other in zip(found.pooled, expected, strict=True):
                    np.testing.assert_array_equal(one, other)
                here.append((batch, found))
            case "give back":
                batch, found = here.pop(rng.integers(len(here)))
                if rng.random() < 0.2:
                    sent.append(worker.begin_discard(found))
                else:
                    gradients = gradients_of(batch)
                    sent.append(worker.begin_update(found, gradients, 0.5))
                    for table, ids, at, gradient in zip(
                        oracle, batch.data.ids, batch.data.offsets, gradients, strict=True
                    ):
                        table.update([(ids, at, gradient)], 0.5)
                    histogram[outstanding] = histogram.get(outstanding, 0) + 1
                outstanding -= 1
            case "acknowledge":
                worker.finish_return(sent.pop(rng.integers(len(sent))))
    assert most_under_way >= min(staleness, 3)
    for server in worker.stats():
        assert server["staleness"] == {"max": max(histogram), "histogram": histogram}
        assert server["errors"] == {}


@pytest.mark.parametrize(("staleness", "delay_s"), [(1, 0.0), (2, 0.0), (4, 0.0), (4, 0.002), (9, 0.001)])
def test_what_a_pipeline_reads_is_no_staler_than_the_bound(
    make_worker: MakeWorker, staleness: int, delay_s: float
) -> None:
    servers = 2
    worker = make_worker(tables=TABLES, staleness=staleness, servers=servers, delay_s=delay_s)
    oracle = Prefixes(TABLES, SEED, servers, staleness)
    rng = np.random.default_rng(staleness)
    held: list[Any] = []
    with EmbeddingPipeline(worker, iter(batches(80, staleness)), staleness) as pipeline:

        def give_back() -> None:
            ready = held.pop(0)
            gradients = None if ready.batch.number % 7 == 6 else gradients_of(ready.batch)
            oracle.give_back(ready.batch, gradients, 0.5)
            if gradients is None:
                pipeline.discard(ready)
            else:
                pipeline.update(ready, gradients, 0.5)

        for ready in pipeline:
            oracle.check(ready.batch, ready.lookup.pooled)
            held.append(ready)
            while held and (len(held) == staleness or rng.random() < 0.5):
                give_back()
        while held:
            give_back()
        pipeline.drain()
        assert pipeline.outstanding == 0
    assert no_threads_left()
    assert oracle.latest[0] > 0
    check_rows(worker, oracle.states[-1])
    for server in worker.stats():
        staleness_of = cast("dict[str, Any]", server["staleness"])
        assert 1 <= staleness_of["max"] <= staleness
        assert sum(staleness_of["histogram"].values()) == 80 - 80 // 7
        assert server["errors"] == {}


def check_rows(worker: _native.EmbeddingWorker, tables: list[ReferenceTable]) -> None:
    """Every row that the oracle has, bit for bit."""
    every = numbered(TABLES, 0, [np.arange(12), np.arange(12)]).data
    found = worker.lookup(0, every.ids, every.offsets, training=False).pooled
    for table, ids, offsets, rows in zip(tables, every.ids, every.offsets, found, strict=True):
        np.testing.assert_array_equal(rows, table.pool(ids, offsets, create=False))


class Gated:
    """A worker that lets nobody collect before `needed` requests of the kind have been sent."""

    def __init__(self, worker: _native.EmbeddingWorker, needed: int) -> None:
        self._worker = worker
        self._lookups, self._returns = threading.Semaphore(0), threading.Semaphore(0)
        self._needed = {id(self._lookups): needed, id(self._returns): needed}

    def _wait(self, sent: threading.Semaphore) -> None:
        for _ in range(self._needed.pop(id(sent), 0)):
            assert sent.acquire(timeout=20), "the others were not sent before the first was collected"

    def begin_lookup(self, *arguments: Any) -> _native.PendingLookup:
        self._lookups.release()
        return self._worker.begin_lookup(*arguments)

    def finish_lookup(self, pending: _native.PendingLookup) -> _native.Lookup:
        self._wait(self._lookups)
        return self._worker.finish_lookup(pending)

    def begin_update(self, *arguments: Any) -> _native.PendingReturn:
        self._returns.release()
        return self._worker.begin_update(*arguments)

    def finish_return(self, pending: _native.PendingReturn) -> None:
        self._wait(self._returns)
        self._worker.finish_return(pending)


def test_as_many_lookups_and_updates_are_on_their_way_as_there_are_permits(make_worker: MakeWorker) -> None:
    staleness = 5
    gated = Gated(make_worker(tables=TABLES, staleness=staleness), staleness)
    worker = cast("_native.EmbeddingWorker", gated)
    with EmbeddingPipeline(worker, iter(batches(staleness, 1)), staleness) as pipeline:
        for ready in pipeline:
            pipeline.update(ready, gradients_of(ready.batch), 1.0)
        pipeline.drain()


def test_a_lookup_that_the_servers_refuse_leaves_none_under_way(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=TABLES, staleness=3, servers=2)
    with (
        pytest.raises(_native.ServerError, match="server rank 0: LOOKUP: STALENESS_EXCEEDED"),
        EmbeddingPipeline(worker, iter(batches(20, 1)), 6) as pipeline,  # more permits than the servers know
    ):
        for _ in pipeline:
            pass
    assert no_threads_left()
    check_rows(worker, [oracle_of_rows(batches(3, 1), table) for table in range(2)])


def oracle_of_rows(looked_up: list[Numbered], table: int) -> ReferenceTable:
    """The rows of a table that these batches have made."""
    oracle = ReferenceTable(TABLES[table], SEED)
    for batch in looked_up:
        oracle.pool(batch.data.ids[table], batch.data.offsets[table], create=True)
    return oracle


def test_an_update_that_the_servers_refuse_loses_no_other(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=TABLES, staleness=4)
    oracle = [oracle_of_rows(batches(4, 2), table) for table in range(2)]
    held = []
    with (
        pytest.raises(_native.ServerError, match="server rank 0: UPDATE: NOT_FINITE"),
        EmbeddingPipeline(worker, iter(batches(4, 2)), 4) as pipeline,
    ):
        for ready in pipeline:
            held.append(ready)
        for ready in held:
            # Finite as the worker sees it; times the learning rate it is beyond float32.
            factors = [1e300, 1.0] if ready.batch.number == 1 else [1.0, 1.0]
            pipeline.update(ready, gradients_of(ready.batch), 1.0, factors)
        pipeline.drain()
    assert no_threads_left()
    (server,) = worker.stats()
    assert server["errors"] == {"NOT_FINITE": 1}
    applied = cast("int", server["step"])
    for batch in [batch for batch in batches(4, 2) if batch.number != 1][:applied]:
        for table, ids, offsets, gradient in zip(
            oracle, batch.data.ids, batch.data.offsets, gradients_of(batch), strict=True
        ):
            table.update([(ids, offsets, gradient)], 1.0)
    check_rows(worker, oracle)


def test_leaving_with_lookups_under_way_collects_them(make_worker: MakeWorker) -> None:
    worker = make_worker(tables=TABLES, staleness=4, delay_s=0.01)

    def source() -> Iterator[Numbered]:
        yield from batches(100, 3)

    with EmbeddingPipeline(worker, source(), 4) as pipeline:
        next(iter(pipeline))
    assert no_threads_left()
    sent = cast("dict[str, int]", worker.stats()[0]["requests"])["LOOKUP"]
    assert 1 <= sent <= 4
    check_rows(worker, [oracle_of_rows(batches(sent, 3), table) for table in range(2)])
