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
ADAGRAD = {"kind": "adagrad", "learning_rate": 0.1, "initial_accumulator": 0.0, "epsilon": 1e-10}
# `capacity_rows` is for the reference; the servers are told the bytes of so many rows.
TABLES = [
    make_table("user", 1, 3),
    make_table("tag", 2, 5, pooling="mean", initializer={"kind": "zeros"}),
    make_table("plain", 3, 1, optimizer=SGD),
    make_table("full", 4, 2, weight_type="bfloat16", capacity_rows=3, max_age_days=2),
    make_table("aging", 5, 9, optimizer=SGD, weight_type="float16", max_age_days=1, pooling="mean"),
    make_table("rare", 6, 7, optimizer=SGD, weight_type="bfloat16", capacity_rows=4,
               admission={"kind": "sightings", "count": 2}),
]  # fmt: skip
FEATURES = [0, 1, 0, 2, 1, 3, 4, 5, 3]  # three tables are shared by two features each
VALUES = 7
ROWS = st.integers(0, 4)
FACTORS = st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]), min_size=len(TABLES), max_size=len(TABLES))


def spec_of(table: dict[str, Any]) -> dict[str, Any]:
    """What servers are told of a table."""
    spec = dict(table)
    rows = spec.pop("capacity_rows", None)
    if rows is not None:
        dim, narrow = int(table["dim"]), table["weight_type"] != "float32"
        weights = -(-2 * dim // 4) * 4 if narrow else 4 * dim
        state = 4 * dim if table["optimizer"]["kind"] == "adagrad" else 0
        spec["capacity_bytes"] = rows * (weights + state + 24)
    return spec


class Pair:
    """The same history told to the worker and to the reference."""

    def __init__(self, make_worker: MakeWorker, servers: int, staleness: int) -> None:
        self.make_worker = make_worker
        self.staleness = staleness
        self.tables = [ReferenceTable(table, seed=5, servers=servers) for table in TABLES]
        self.batch = 0
        self.day = 1000
        self.open: list[tuple[_native.Lookup, list[Any], list[Any]]] = []
        self.worker = self.new_worker(servers)

    def new_worker(self, servers: int) -> _native.EmbeddingWorker:
        return self.make_worker(
            tables=[spec_of(table) for table in TABLES],
            features=FEATURES,
            servers=servers,
            staleness=self.staleness,
        )

    def lookup(self, ids: list[Any], offsets: list[Any], training: bool) -> None:
        found = self.worker.lookup(self.batch, ids, offsets, training)
        self.batch += training
        missing = unique = 0
        for t, table in enumerate(self.tables):
            mine = [f for f in range(len(FEATURES)) if FEATURES[f] == t]
            wanted = list(dict.fromkeys(int(i) for f in mine for i in ids[f]))
            read = table.lookup(wanted, training)
            missing += len(wanted) - len(read)
            unique += len(wanted)
            for f in mine:
                np.testing.assert_array_equal(found.pooled[f], table.pooled(read, ids[f], offsets[f]))
        assert (found.unique_ids, found.missing_ids) == (unique, missing)
        if training:
            self.open.append((found, ids, offsets))

    def update(self, at: int, scale: float, factors: list[float], rng: np.random.Generator) -> None:
        found, ids, offsets = self.open.pop(at % len(self.open))
        gradients = [rng.standard_normal(p.shape).astype(np.float32) for p in found.pooled]
        self.worker.update(found, gradients, scale, factors)
        for t, table in enumerate(self.tables):
            mine = [f for f in range(len(FEATURES)) if FEATURES[f] == t]
            table.update([(ids[f], offsets[f], gradients[f]) for f in mine], scale, factors[t])

    def discard(self, at: int) -> None:
        self.worker.discard(self.open.pop(at % len(self.open))[0])

    def discard_all(self) -> None:
        while self.open:
            self.discard(0)

    def advance_day(self, days: int) -> None:
        self.discard_all()
        self.day += days
        self.worker.advance_day(self.day)
        for table in self.tables:
            table.advance_day(self.day)

    def restore(self, servers: int) -> None:
        self.discard_all()
        self.check_all_rows()
        with tempfile.TemporaryDirectory() as directory:
            saved = self.worker.save(directory)
            assert sum(int(str(part["rows"])) for part in saved) == sum(
                len(table.rows) for table in self.tables
            )
            self.worker.shutdown()
            self.worker = self.new_worker(servers)
            self.worker.load([str(Path(directory) / str(part["name"])) for part in saved])
        for table in self.tables:
            table.restored(servers)

    def check_all_rows(self) -> None:
        none = np.array([], dtype=np.uint64)
        for t, table in enumerate(self.tables):
            f = FEATURES.index(t)
            keys = [id_of(TABLES[t], v) for v in range(VALUES)]
            ids = [none] * len(FEATURES)
            offsets = [np.zeros(VALUES + 1, dtype=np.int64)] * len(FEATURES)
            ids[f], offsets[f] = np.array(keys, dtype=np.uint64), np.arange(VALUES + 1, dtype=np.int64)
            found = self.worker.lookup(0, ids, offsets, training=False)
            assert found.missing_ids == VALUES - len(table.rows)
            expected = [table.rows.get(key, np.zeros(table.dim, np.float32)) for key in keys]
            np.testing.assert_array_equal(found.pooled[f], np.stack(expected))
        for table in self.tables:
            counted = [stats["tables"][table.name] for stats in self.worker.stats()]  # type: ignore[index]
            assert sum(each["rows"] for each in counted) == len(table.rows)
            for name, value in table.counts.items():
                assert sum(each[name] for each in counted) == value, (table.name, name)
        for stats in self.worker.stats():
            assert stats["errors"] == {}
            assert stats["step"] == self.tables[0].steps


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.int64]]]:
    """Bags of 0 to 3 ids out of few, so that ids repeat within bags, samples, features and batches."""
    rows = draw(ROWS)
    ids, offsets = [], []
    for t in FEATURES:
        values = st.integers(0, VALUES - 1)
        bags = draw(st.lists(st.lists(values, max_size=3), min_size=rows, max_size=rows))
        ids.append(np.array([id_of(TABLES[t], v) for bag in bags for v in bag], dtype=np.uint64))
        offsets.append(np.cumsum([0] + [len(bag) for bag in bags]).astype(np.int64))
    return ids, offsets


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("train"), batches()),
        st.tuples(st.just("train"), batches()),
        st.tuples(st.just("evaluate"), batches()),
        st.tuples(st.just("update"), st.tuples(st.integers(0, 3), FACTORS)),
        st.tuples(st.just("discard"), st.integers(0, 3)),
        st.tuples(st.just("day"), st.integers(0, 2)),
        st.tuples(st.just("restore"), st.integers(1, 4)),
    ),
    min_size=5,
    max_size=25,
)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
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
            pair.update(argument[0], 0.5, argument[1], rng)
        elif action == "discard" and pair.open:
            pair.discard(argument)
        elif action == "day":
            pair.advance_day(argument)
        elif action == "restore":
            pair.restore(argument)
    pair.check_all_rows()
    pair.worker.shutdown()


def test_a_long_history_agrees_with_the_reference(make_worker: MakeWorker) -> None:
    """More of everything than short histories have, and proof that all of it happened."""
    pair, rng = Pair(make_worker, 2, 3), np.random.default_rng(0)
    happened = dict.fromkeys(pair.tables[0].counts, 0)
    for turn in range(400):
        if len(pair.open) == 3:
            factors = rng.choice([0.0, 0.25, 1.0, 3.0, 1e6], len(TABLES)).tolist()
            pair.update(int(rng.integers(3)), 0.5, factors, rng)
        else:
            bags = [rng.integers(0, VALUES, (4, 2)) for _ in FEATURES]
            ids = [
                np.array([id_of(TABLES[t], int(v)) for v in bag.ravel()], dtype=np.uint64)
                for t, bag in zip(FEATURES, bags, strict=True)
            ]
            pair.lookup(ids, [np.arange(0, 9, 2, dtype=np.int64)] * len(FEATURES), training=True)
        if turn % 50 == 49:
            pair.check_all_rows()
            for table in pair.tables:
                for name, count in table.counts.items():
                    happened[name] += count
            pair.restore(1 + turn % 3)
            pair.advance_day(1 + turn % 2)
    assert all(happened.values()), happened


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
