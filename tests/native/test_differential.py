"""Worker and servers against a dict with NumPy optimizers, over random histories."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from conftest import MakeWorker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import ReferenceTable, id_of, make_table

from persia_core import _native

SGD = {"kind": "sgd", "learning_rate": 0.3}
TABLES = [
    make_table("user", 1, 3),
    make_table("tag", 2, 5, pooling="mean", initializer={"kind": "zeros"}),
    make_table("plain", 3, 1, optimizer=SGD),
]
FEATURES = [0, 1, 0, 2, 1]  # two tables are shared by two features each
ROWS = st.integers(0, 4)


class Pair:
    """The same history told to the worker and to the reference."""

    def __init__(self, make_worker: MakeWorker, servers: int, staleness: int) -> None:
        self.make_worker = make_worker
        self.staleness = staleness
        self.tables = [ReferenceTable(table, seed=5) for table in TABLES]
        self.batch = 0
        self.open: list[tuple[_native.Lookup, list[Any], list[Any]]] = []
        self.worker = self.new_worker(servers)

    def new_worker(self, servers: int) -> _native.EmbeddingWorker:
        return self.make_worker(tables=TABLES, features=FEATURES, servers=servers, staleness=self.staleness)

    def lookup(self, ids: list[Any], offsets: list[Any], training: bool) -> None:
        found = self.worker.lookup(self.batch, ids, offsets, training)
        self.batch += training
        known = [set(table.rows) for table in self.tables]
        for f, t in enumerate(FEATURES):
            expected = self.tables[t].pool(ids[f], offsets[f], create=training)
            assert found.pooled[f].shape == expected.shape
            np.testing.assert_allclose(found.pooled[f], expected, rtol=1e-6, atol=1e-7)
        unique = {(t, int(i)) for f, t in enumerate(FEATURES) for i in ids[f]}
        assert found.unique_ids == len(unique)
        missing = 0 if training else sum(key not in known[t] for t, key in unique)
        assert found.missing_ids == missing
        if training:
            self.open.append((found, ids, offsets))

    def update(self, at: int, scale: float, rng: np.random.Generator) -> None:
        found, ids, offsets = self.open.pop(at % len(self.open))
        gradients = [rng.standard_normal(p.shape).astype(np.float32) for p in found.pooled]
        self.worker.update(found, gradients, scale)
        for t, table in enumerate(self.tables):
            table.update(
                [(ids[f], offsets[f], gradients[f]) for f in range(len(FEATURES)) if FEATURES[f] == t], scale
            )

    def discard(self, at: int) -> None:
        self.worker.discard(self.open.pop(at % len(self.open))[0])

    def restore(self, servers: int) -> None:
        while self.open:
            self.discard(0)
        with tempfile.TemporaryDirectory() as directory:
            saved = self.worker.save(directory)
            assert sum(int(str(part["rows"])) for part in saved) == sum(
                len(table.rows) for table in self.tables
            )
            self.worker.shutdown()
            self.worker = self.new_worker(servers)
            loaded = self.worker.load([str(Path(directory) / str(part["name"])) for part in saved])
            assert sum(int(str(part["rows"])) for part in loaded) == sum(int(str(p["rows"])) for p in saved)

    def check_all_rows(self) -> None:
        for f, t in enumerate(FEATURES[:4]):
            if f == 2:
                continue
            table = self.tables[t]
            ids = [np.array([], dtype=np.uint64)] * len(FEATURES)
            offsets = [np.zeros(len(table.rows) + 1, dtype=np.int64)] * len(FEATURES)
            ids[f] = np.array(list(table.rows), dtype=np.uint64)
            offsets[f] = np.arange(len(table.rows) + 1, dtype=np.int64)
            found = self.worker.lookup(0, ids, offsets, training=False)
            assert found.missing_ids == 0
            expected = np.array(list(table.rows.values()), dtype=np.float32).reshape(-1, table.dim)
            np.testing.assert_allclose(found.pooled[f], expected, rtol=1e-5, atol=1e-6)
        rows = {table.name: 0 for table in self.tables}
        for stats in self.worker.stats():
            assert stats["errors"] == {}
            for name, counters in stats["tables"].items():  # type: ignore[attr-defined]
                rows[name] += counters["rows"]
                assert counters["updates_missing"] == 0
        assert rows == {table.name: len(table.rows) for table in self.tables}


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.int64]]]:
    """Bags of 0 to 3 ids out of few, so that ids repeat within bags, samples, features and batches."""
    rows = draw(ROWS)
    ids, offsets = [], []
    for t in FEATURES:
        bags = draw(st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=rows, max_size=rows))
        ids.append(np.array([id_of(TABLES[t], v) for bag in bags for v in bag], dtype=np.uint64))
        offsets.append(np.cumsum([0] + [len(bag) for bag in bags]).astype(np.int64))
    return ids, offsets


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("train"), batches()),
        st.tuples(st.just("evaluate"), batches()),
        st.tuples(st.just("update"), st.integers(0, 3)),
        st.tuples(st.just("discard"), st.integers(0, 3)),
        st.tuples(st.just("restore"), st.integers(1, 4)),
    ),
    min_size=5,
    max_size=25,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, servers=st.integers(1, 4), staleness=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_history_agrees_with_the_reference(
    make_worker: MakeWorker, actions: list[tuple[str, Any]], servers: int, staleness: int, seed: int
) -> None:
    pair = Pair(make_worker, servers, staleness)
    rng = np.random.default_rng(seed)
    for action, argument in actions:
        if action == "evaluate" or (action == "train" and len(pair.open) < staleness):
            pair.lookup(argument[0], argument[1], training=action == "train")
        elif action == "update" and pair.open:
            pair.update(argument, 0.5, rng)
        elif action == "discard" and pair.open:
            pair.discard(argument)
        elif action == "restore":
            pair.restore(argument)
    pair.check_all_rows()
    pair.worker.shutdown()


def test_optimizers_equal_torch(make_worker: MakeWorker) -> None:
    import torch

    tables = [
        make_table("a", 1, 8),
        make_table("s", 2, 8, optimizer=SGD),
        make_table(
            "i", 3, 8, optimizer=TABLES[0]["optimizer"] | {"initial_accumulator": 0.5, "epsilon": 1e-3}
        ),
    ]
    worker = make_worker(tables=tables)
    ids = [np.array([id_of(table, 1)], dtype=np.uint64) for table in tables]
    offsets = [np.array([0, 1], dtype=np.int64)] * 3
    found = worker.lookup(0, ids, offsets, training=True)
    weights = [torch.nn.Parameter(torch.from_numpy(pooled.copy())) for pooled in found.pooled]
    optimizers = [
        torch.optim.Adagrad([weights[0]], lr=0.1, eps=1e-10),
        torch.optim.SGD([weights[1]], lr=0.3),
        torch.optim.Adagrad([weights[2]], lr=0.1, eps=1e-3, initial_accumulator_value=0.5),
    ]
    rng = np.random.default_rng(3)
    for step in range(1, 50):
        gradients = [rng.standard_normal((1, 8)).astype(np.float32) for _ in tables]
        worker.update(found, gradients, 1.0)
        for weight, gradient, optimizer in zip(weights, gradients, optimizers, strict=True):
            weight.grad = torch.from_numpy(gradient)
            optimizer.step()
        found = worker.lookup(step, ids, offsets, training=True)
        for pooled, weight in zip(found.pooled, weights, strict=True):
            np.testing.assert_allclose(pooled, weight.detach().numpy(), rtol=1e-5, atol=1e-6)
