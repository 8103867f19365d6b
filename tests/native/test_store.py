"""One table against a dict: which rows there are, what they hold, and which are evicted."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optimizers as oracle
import pytest
from conftest import MakeWorker
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import id_of, initial_row, make_table

from persia_core import _native

SEED = 5
OPTIMIZERS: list[dict[str, Any]] = [
    {"kind": "sgd", "learning_rate": 0.3},
    {"kind": "adagrad", "learning_rate": 0.1, "initial_accumulator": 0.1, "epsilon": 1e-8},
    {"kind": "rowwise_adagrad", "learning_rate": 0.1, "initial_accumulator": 0.1, "epsilon": 1e-8},
    {"kind": "adam", "learning_rate": 0.05, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6},
]
STATE = {
    "sgd": lambda d: 0,
    "adagrad": lambda d: d,
    "rowwise_adagrad": lambda d: 1,
    "adam": lambda d: 2 * d + 1,
}


def with_capacity(rows: int | None, dim: int, optimizer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A table that holds `rows` rows."""
    row = 4 * (dim + STATE[optimizer["kind"]](dim)) + 24
    capacity = None if rows is None else rows * row
    return make_table("t", 1, dim, optimizer=optimizer, capacity_bytes=capacity, **changes)


class Model:
    """The same table as a dict of float64 rows, with the clock of each row's last training lookup."""

    def __init__(self, table: dict[str, Any], capacity: int | None) -> None:
        self.table, self.capacity, self.clock = table, capacity, 0
        self.rows: dict[int, Any] = {}
        self.used: dict[int, int] = {}
        self.seen: dict[int, int] = {}
        self.evicted = self.missing_updates = 0

    def lookup(self, ids: list[int], training: bool) -> NDArray[np.float64]:
        self.clock += training
        found = []
        for key in ids:
            if training and key not in self.rows and self._admits(key):
                self._create(key)
            if training and key in self.rows:
                self.used[key] = self.clock
            found.append(self.rows[key][0] if key in self.rows else np.zeros(self.table["dim"]))
        return np.array(found).reshape(-1, self.table["dim"])

    def _admits(self, key: int) -> bool:
        self.seen[key] = self.seen.get(key, 0) + 1
        return self.seen[key] >= self.table.get("admission", {}).get("count", 1)

    def _create(self, key: int) -> None:
        if self.capacity is not None and len(self.rows) == self.capacity:
            oldest = min(self.rows, key=lambda each: (self.used[each], each))
            del self.rows[oldest], self.used[oldest]
            self.evicted += 1
        start = initial_row(self.table, SEED, key).astype(np.float64)
        self.rows[key] = (start, oracle.initial_state(self.table["optimizer"], self.table["dim"]))

    def update(self, ids: list[int], gradients: NDArray[np.float32]) -> None:
        sums: dict[int, Any] = {}
        for key, gradient in zip(ids, gradients.astype(np.float64), strict=True):
            sums[key] = sums.get(key, 0) + gradient
        for key, gradient in sums.items():
            if key in self.rows:
                self.rows[key] = oracle.step(self.table["optimizer"], *self.rows[key], gradient)
            else:
                self.missing_updates += 1


VALUES = st.lists(st.integers(0, 40), max_size=30)
ACTIONS = st.lists(st.tuples(st.sampled_from(["train", "train", "evaluate", "update"]), VALUES), max_size=25)


@settings(max_examples=250, deadline=None)
@given(
    actions=ACTIONS, capacity=st.none() | st.integers(1, 45), dim=st.sampled_from([1, 3, 8, 16]),
    optimizer=st.sampled_from(OPTIMIZERS), sightings=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_history_agrees_with_a_dict(
    actions: list[tuple[str, list[int]]], capacity: int | None, dim: int, optimizer: dict[str, Any],
    sightings: int, seed: int,
) -> None:  # fmt: skip
    admission = {"kind": "sightings", "count": sightings}
    table = with_capacity(capacity, dim, optimizer, admission=admission, expected_rows=1)
    store, model, rng = _native.Store(table, SEED), Model(table, capacity), np.random.default_rng(seed)
    everything = [id_of(table, v) for v in range(41)]
    for action, values in actions:
        keys = [id_of(table, v) for v in values]
        ids = np.array(keys, np.uint64)
        if action == "update":
            gradients = rng.standard_normal((len(keys), dim)).astype(np.float32)
            store.update(ids, gradients)
            model.update(keys, gradients)
        else:
            found = store.lookup(ids, action == "train")
            np.testing.assert_allclose(found, model.lookup(keys, action == "train"), rtol=1e-3, atol=1e-4)
        rows = store.lookup(np.array(everything, np.uint64), training=False)
        np.testing.assert_allclose(rows, model.lookup(everything, training=False), rtol=1e-3, atol=1e-4)
        present = np.flatnonzero(np.abs(rows).sum(axis=1) > 0)
        assert {everything[at] for at in present} == set(model.rows)
        stats = store.stats()
        assert stats["rows"] == len(model.rows)
        assert stats["evicted"] == model.evicted
        assert stats["updates_missing"] == model.missing_updates


@pytest.mark.parametrize("capacity", [100, 150, 3000])
def test_many_rows_many_evictions(capacity: int) -> None:
    """Beyond the look-ahead, growth and the eviction scans of the small histories.

    A lookup may need more rows than fit: then those it has just touched go too, smallest id first.
    """
    table = with_capacity(capacity, 2, OPTIMIZERS[0], expected_rows=1)
    store, model, rng = _native.Store(table, SEED), Model(table, capacity), np.random.default_rng(1)
    for _ in range(30):
        keys = [id_of(table, int(v)) for v in rng.zipf(1.2, 700) % 20000]
        ids, gradients = np.array(keys, np.uint64), rng.standard_normal((700, 2)).astype(np.float32)
        np.testing.assert_allclose(store.lookup(ids, True), model.lookup(keys, True), rtol=1e-4, atol=1e-4)
        store.update(ids, gradients)
        model.update(keys, gradients)
    assert model.evicted > 500
    assert store.stats()["evicted"] == model.evicted
    keys = [id_of(table, v) for v in range(20000)]
    np.testing.assert_allclose(
        store.lookup(np.array(keys, np.uint64), False), model.lookup(keys, False), rtol=1e-4, atol=1e-4
    )


def test_a_row_touched_after_a_scan_keeps_its_place_in_the_order() -> None:
    table = with_capacity(64, 1, OPTIMIZERS[0])
    store, model = _native.Store(table, SEED), Model(table, 64)
    # 100 evicts 0, for which the rows are scanned; then 1 is touched, and is the oldest again by its id.
    for values in [list(range(64)), [*range(2, 64), 100, 1, 101]]:
        keys = [id_of(table, v) for v in values]
        store.lookup(np.array(keys, np.uint64), True)
        model.lookup(keys, True)
    keys = [id_of(table, v) for v in range(110)]
    rows = store.lookup(np.array(keys, np.uint64), False)
    assert {keys[at] for at in np.flatnonzero(rows[:, 0])} == set(model.rows)
    assert {id_of(table, 0), id_of(table, 1)}.isdisjoint(model.rows)


def test_an_update_of_an_evicted_id_reaches_no_other_row() -> None:
    table = with_capacity(2, 1, OPTIMIZERS[0])
    store = _native.Store(table, SEED)
    ids = np.array([id_of(table, v) for v in range(3)], np.uint64)
    store.lookup(ids[:2], True)
    store.lookup(ids[1:], True)  # evicts 0
    before = store.lookup(ids, False).copy()
    store.update(ids, np.array([[100.0], [1.0], [2.0]], np.float32))
    np.testing.assert_allclose(before - store.lookup(ids, False), [[0.0], [0.3], [0.6]], rtol=1e-5)
    assert store.stats()["updates_missing"] == 1


@pytest.mark.parametrize("servers", [1, 2])
def test_recency_is_part_of_a_checkpoint(make_worker: MakeWorker, tmp_path: Path, servers: int) -> None:
    """After a restore, the same rows are evicted as if there had been none, on the same servers or fewer."""
    table = with_capacity(8, 1, OPTIMIZERS[0])

    def touch(worker: _native.EmbeddingWorker, batch: int, values: list[int]) -> None:
        ids = [np.array([id_of(table, v) for v in values], np.uint64)]
        found = worker.lookup(batch, ids, [np.arange(len(values) + 1, dtype=np.int64)], training=True)
        worker.discard(found)

    def present(worker: _native.EmbeddingWorker) -> set[int]:
        ids = [np.array([id_of(table, v) for v in range(30)], np.uint64)]
        pooled = worker.lookup(0, ids, [np.arange(31, dtype=np.int64)], training=False).pooled[0]
        return {v for v in range(30) if pooled[v, 0] != 0}

    worker = make_worker(tables=[table], servers=servers)
    history = [[0, 1, 2, 3, 4], [5], [1, 6], [0], [2, 7]]
    for batch, values in enumerate(history):
        touch(worker, batch, values)
    paths = [str(tmp_path / str(part["name"])) for part in worker.save(str(tmp_path))]
    restored, fewer = make_worker(tables=[table], servers=servers), make_worker(tables=[table], servers=1)
    restored.load(paths)
    fewer.load(paths)
    for each in (worker, restored, fewer):
        touch(each, 5, [20, 21, 22])
    assert present(worker) == present(restored)
    assert present(fewer) == {6, 1, 0, 2, 7, 20, 21, 22}  # the last users of 8 rows, in whatever order
    if servers == 1:
        assert present(worker) == present(fewer)


def test_a_full_table_keeps_the_newest_of_a_checkpoint(make_worker: MakeWorker, tmp_path: Path) -> None:
    big, small = with_capacity(1000, 1, OPTIMIZERS[0]), with_capacity(100, 1, OPTIMIZERS[0])
    worker = make_worker(tables=[big], servers=3)
    order = np.random.default_rng(0).permutation(300)
    for batch, values in enumerate(order.reshape(30, 10)):
        ids = [np.array([id_of(big, int(v)) for v in values], np.uint64)]
        worker.discard(worker.lookup(batch, ids, [np.arange(11, dtype=np.int64)], training=True))
    paths = [str(tmp_path / str(part["name"])) for part in worker.save(str(tmp_path))]
    restored = make_worker(tables=[small], servers=1)
    restored.load(paths)
    ids = [np.array([id_of(small, v) for v in range(300)], np.uint64)]
    found = restored.lookup(0, ids, [np.arange(301, dtype=np.int64)], training=False)
    assert set(np.flatnonzero(found.pooled[0][:, 0])) == set(order[-100:].tolist())


def test_admission_by_probability_is_a_function_of_the_id() -> None:
    table = make_table("t", 1, 1, admission={"kind": "probability", "probability": 0.3})
    ids = np.array([id_of(table, v) for v in range(20000)], np.uint64)
    first, second = _native.Store(table, SEED), _native.Store(table, SEED)
    once = first.lookup(ids, True) != 0
    for piece in np.array_split(ids[::-1], 7):
        second.lookup(np.ascontiguousarray(piece), True)
    np.testing.assert_array_equal(once, second.lookup(ids, False) != 0)
    assert abs(once.mean() - 0.3) < 0.02
    assert first.stats()["not_admitted"] == 20000 - first.stats()["rows"]
    assert (once != (_native.Store(table, SEED + 1).lookup(ids, True) != 0)).any()


def test_initializers_have_their_distributions() -> None:
    n, dim = 4000, 16
    kinds: list[dict[str, Any]] = [
        {"kind": "normal", "mean": 0.5, "std": 2.0},
        {"kind": "scaled_uniform", "scale": 3.0},
        {"kind": "uniform", "low": -1.0, "high": 2.0},
        {"kind": "zeros"},
    ]
    expected = [(0.5, 2.0), (0.0, 1.5 / 2 / np.sqrt(3)), (0.5, 3 / 2 / np.sqrt(3)), (0.0, 0.0)]
    for kind, (mean, std) in zip(kinds, expected, strict=True):
        table = make_table("t", 1, dim, initializer=kind)
        ids = np.array([id_of(table, v) for v in range(n)], np.uint64)
        rows = _native.Store(table, SEED).lookup(ids, True)
        np.testing.assert_array_equal(rows, _native.initial_rows(table, SEED, ids))
        assert abs(rows.mean() - mean) < 0.03
        assert abs(rows.std() - std) < 0.03
        if std > 0:
            assert (rows != _native.initial_rows(table, SEED + 1, ids)).any()
            assert len(np.unique(rows)) > 0.9 * rows.size
    bound = 3.0 / 4
    table = make_table("t", 1, dim, initializer=kinds[1])
    rows = _native.initial_rows(table, SEED, ids)
    assert -bound <= rows.min() < -0.99 * bound
    assert 0.99 * bound < rows.max() < bound


def test_normal_rows_follow_their_specification() -> None:
    from reference import mix64

    table = make_table("t", 1, 4, initializer={"kind": "normal", "mean": 0.25, "std": 1.5})
    key = id_of(table, 77)
    start, mask = mix64(key ^ mix64(SEED)), (1 << 64) - 1
    fractions = [(mix64((start + (k + 1) * 0x9E3779B97F4A7C15) & mask) >> 11) / 2**53 for k in range(8)]
    v, w = np.array(fractions[::2]), np.array(fractions[1::2])
    expected = 0.25 + 1.5 * np.sqrt(-2 * np.log(1 - v)) * np.cos(2 * np.pi * w)
    found = _native.initial_rows(table, SEED, np.array([key], np.uint64))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_wrong_arguments_are_named() -> None:
    table = make_table("t", 1, 2)
    store = _native.Store(table, SEED)
    with pytest.raises(ValueError, match="has not the prefix of table t"):
        store.lookup(np.array([5], np.uint64), True)
    with pytest.raises(ValueError, match=r"gradients must have the shape \[ids, dim\]"):
        store.update(np.array([id_of(table, 1)], np.uint64), np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="out must have the shape"):
        store.lookup(np.array([id_of(table, 1)], np.uint64), True, np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="capacity_bytes is less than one row"):
        _native.Store(table | {"capacity_bytes": 39}, SEED)
    with pytest.raises(ValueError, match="admission: unknown kind sometimes"):
        _native.Store(table | {"admission": {"kind": "sometimes"}}, SEED)
    for wrong in (0, 256, 1.5):
        with pytest.raises(ValueError, match="count must be from 1 to 255"):
            _native.Store(table | {"admission": {"kind": "sightings", "count": wrong}}, SEED)
    with pytest.raises(ValueError, match="probability must be"):
        _native.Store(table | {"admission": {"kind": "probability", "probability": 1.5}}, SEED)


STREAM = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from reference import id_of, make_table
from persia_core import _native

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

rows, dim, batch = 400_000, 32, 20_000
table = make_table("t", 1, dim, expected_rows=rows, capacity_bytes=rows * (8 * dim + 24))
out, gradients = np.ones((batch, dim), np.float32), np.ones((batch, dim), np.float32)
first = id_of(table, 0)

def stream(begin, count):
    for start in range(begin, begin + count, batch):
        ids = np.arange(start, start + batch, dtype=np.uint64) + np.uint64(first)
        store.lookup(ids, True, out)
        store.update(ids, gradients)

warm = _native.Store(table, 2)
store = warm
stream(0, batch)
del warm, store
before = resident()
store = _native.Store(table, 1)
stream(0, rows + 2 * batch)
full = resident()
stream(rows + 2 * batch, 10 * rows)
after = resident()
stats = store.stats()
print(full - before - rows * 8 * dim, after - full, full - before, stats["rows"], stats["evicted"])
"""


def test_memory_stays_within_the_capacity() -> None:
    result = subprocess.run(
        [sys.executable, "-c", STREAM, str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    overhead, growth, full, rows, evicted = map(int, result.stdout.split())
    assert rows == 400_000
    assert evicted == 2 * 20_000 + 10 * rows
    # 24 bytes per row, and what is not full of the last huge page of the slabs and of the index.
    assert overhead <= 24 * rows + 2 * (2 << 20)
    assert growth <= 0.02 * full
