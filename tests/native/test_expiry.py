"""Eviction by age in logical days, against a dict that notes the day of every row."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeWorker
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import id_of, make_table
from safetensors.numpy import load_file
from test_frames import DISCARD, LOOKUP, Client, lookup_payload

from persia_core import _native

SEED = 5
ADVANCE_DAY, BATCHES_OUTSTANDING, MALFORMED = 9, 21, 9
SGD = {"kind": "sgd", "learning_rate": 0.5}
VALUES = range(25)


class Ages:
    """The ids of a table with the day of their last training lookup; the order of lookups breaks ties."""

    def __init__(self, max_age: int | None, capacity: int | None) -> None:
        self.max_age, self.capacity = max_age, capacity
        self.day: int | None = None
        self.clock = 0
        self.rows: dict[int, tuple[int | None, int]] = {}  # the day, and the clock of the lookup
        self.expired = self.evicted = 0

    def lookup(self, values: list[int]) -> None:
        self.clock += 1
        for value in values:
            if value not in self.rows and len(self.rows) == self.capacity:
                del self.rows[min(self.rows, key=lambda v: (self.rows[v][1], v))]
                self.evicted += 1
            self.rows[value] = (self.day, self.clock)

    def advance(self, day: int) -> None:
        if self.day is not None and day <= self.day:
            return
        if self.day is None:  # what came before counts as of the first day
            self.rows = {value: (day, clock) for value, (_, clock) in self.rows.items()}
        self.day = day
        if self.max_age is None:
            return
        young = {v: used for v, used in self.rows.items() if used[0] is None or used[0] >= day - self.max_age}
        self.expired += len(self.rows) - len(young)
        self.rows = young


def aging_table(max_age: int | None, capacity: int | None = None, **changes: Any) -> dict[str, Any]:
    row = 4 * 2 + 24  # dim 2, no state
    bytes_ = None if capacity is None else capacity * row
    return make_table("t", 1, 2, optimizer=SGD, max_age_days=max_age, capacity_bytes=bytes_, **changes)


def ids_of(table: dict[str, Any], values: Any) -> Any:
    return np.array([id_of(table, int(v)) for v in values], np.uint64)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("train"), st.lists(st.sampled_from(VALUES), max_size=8)),
        st.tuples(st.just("evaluate"), st.lists(st.sampled_from(VALUES), max_size=8)),
        st.tuples(st.just("update"), st.lists(st.sampled_from(VALUES), max_size=8)),
        st.tuples(st.just("day"), st.integers(-2, 4)),
    ),
    max_size=40,
)


@settings(max_examples=250, deadline=None)
@given(
    actions=ACTIONS,
    max_age=st.none() | st.integers(1, 4),
    capacity=st.none() | st.integers(1, 20),
    first_day=st.sampled_from([0, 1, 20_000, 2**32 - 1 - 200]),
)
def test_any_history_agrees_with_a_dict(
    actions: list[tuple[str, Any]], max_age: int | None, capacity: int | None, first_day: int
) -> None:
    table = aging_table(max_age, capacity, expected_rows=1)
    store, ages, day = _native.Store(table, SEED), Ages(max_age, capacity), first_day
    everything = ids_of(table, VALUES)
    for action, argument in actions:
        if action == "train":
            store.lookup(ids_of(table, argument), training=True)
            ages.lookup(argument)
        elif action == "evaluate":
            store.lookup(ids_of(table, argument), training=False)
        elif action == "update":
            store.update(ids_of(table, argument), np.full((len(argument), 2), 1e-3, np.float32))
        else:
            day = max(0, day + argument)
            store.advance_day(day)
            ages.advance(day)
        present = np.flatnonzero(store.lookup(everything, training=False).any(axis=1))
        assert set(present.tolist()) == set(ages.rows)
        stats = store.stats()
        assert (stats["rows"], stats["expired"], stats["evicted"]) == (
            len(ages.rows), ages.expired, ages.evicted
        )  # fmt: skip


def test_the_memory_of_expired_rows_is_used_again() -> None:
    table = aging_table(1)
    store = _native.Store(table, SEED)
    for day in range(40):
        store.advance_day(day)
        fresh = store.lookup(ids_of(table, range(1000 * day, 1000 * day + 1000)), training=True)
        np.testing.assert_array_equal(
            fresh, _native.initial_rows(table, SEED, ids_of(table, range(1000 * day, 1000 * day + 1000)))
        )
        if day == 3:
            before = store.memory()["bytes"]
    assert store.stats()["rows"] == 2000
    assert store.stats()["expired"] == 38_000
    assert store.memory()["bytes"] == before


def test_an_update_of_an_expired_id_reaches_no_other_row() -> None:
    table = aging_table(1)
    store = _native.Store(table, SEED)
    store.advance_day(10)
    store.lookup(ids_of(table, [1, 2]), training=True)
    store.advance_day(11)
    store.lookup(ids_of(table, [2]), training=True)
    store.advance_day(12)
    store.lookup(ids_of(table, [3]), training=True)  # in the memory of 1
    before = store.lookup(ids_of(table, [1, 2, 3]), training=False).copy()
    store.update(ids_of(table, [1, 2]), np.array([[100, 100], [1, 2]], np.float32))
    moved = before - store.lookup(ids_of(table, [1, 2, 3]), training=False)
    np.testing.assert_allclose(moved, [[0, 0], [0.5, 1], [0, 0]], rtol=1e-5)
    assert store.stats()["updates_missing"] == 1


class Days:
    """A worker that is told lookups and days; the batches that it looks up are given back at once."""

    def __init__(self, worker: _native.EmbeddingWorker, table: dict[str, Any], batch: int = 0) -> None:
        self.worker, self.table, self.batch = worker, table, batch

    def train(self, values: list[int]) -> None:
        offsets = [np.arange(len(values) + 1, dtype=np.int64)]
        found = self.worker.lookup(self.batch, [ids_of(self.table, values)], offsets, training=True)
        self.worker.update(found, [np.ones((len(values), 2), np.float32)], 0.125)
        self.batch += 1

    def present(self) -> set[int]:
        offsets = [np.arange(len(VALUES) + 1, dtype=np.int64)]
        found = self.worker.lookup(0, [ids_of(self.table, VALUES)], offsets, training=False)
        return set(np.flatnonzero(found.pooled[0].any(axis=1)).tolist())

    def save(self, directory: Path) -> list[str]:
        directory.mkdir()
        return [str(directory / str(part["name"])) for part in self.worker.save(str(directory))]


def first_days(days: Days) -> None:
    days.worker.advance_day(100)
    days.train([0, 1, 2, 3, 4, 5])
    days.train([6, 7])
    days.worker.advance_day(101)
    days.train([0, 8, 9])
    days.worker.advance_day(102)


def last_days(days: Days) -> list[set[int]]:
    seen = []
    days.train([1, 10])
    for day in (103, 104, 105):
        days.worker.advance_day(day)
        seen.append(days.present())
        days.train([day - 90])
    return seen


@pytest.mark.parametrize("capacity", [None, 9])
@pytest.mark.parametrize("servers", [(1, 1), (1, 3), (3, 3), (4, 2), (3, 1)])
def test_days_are_part_of_a_checkpoint(
    make_worker: MakeWorker, tmp_path: Path, servers: tuple[int, int], capacity: int | None
) -> None:
    table = aging_table(2, capacity if servers == (1, 1) else None)
    through = Days(make_worker(tables=[table], servers=servers[0]), table)
    first_days(through)
    paths = through.save(tmp_path / "cut")
    restored = Days(make_worker(tables=[table], servers=servers[1]), table, through.batch)
    restored.worker.load(paths)
    expected = last_days(through)
    assert last_days(restored) == expected
    if capacity is None:
        # 103 - 2 = 101: what was last seen on day 100 goes; 1 and 10 are of day 102.
        assert expected[0] == {0, 8, 9, 1, 10}
        assert expected[1] == {1, 10, 13}
        assert expected[2] == {13, 14}
    if servers[0] == servers[1]:
        pairs = zip(through.save(tmp_path / "a"), restored.save(tmp_path / "b"), strict=True)
        for one, other in pairs:
            assert Path(one).read_bytes() == Path(other).read_bytes()


def test_the_part_says_which_clocks_are_of_which_day(make_worker: MakeWorker, tmp_path: Path) -> None:
    days = Days(make_worker(tables=[aging_table(2)]), aging_table(2))
    first_days(days)
    tensors = load_file(days.save(tmp_path / "cut")[0])
    np.testing.assert_array_equal(tensors["t.days"], [[100, 0], [101, 3], [102, 4]])
    np.testing.assert_array_equal(tensors["t.clock"], [3])
    values = tensors["t.ids"] & np.uint64(0xFF)
    used = dict(zip(values.tolist(), tensors["t.last_used"].tolist(), strict=True))
    assert used == {0: 3, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 3, 9: 3}


def test_rows_of_a_checkpoint_without_days_are_as_young_as_the_first_day(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    forever = aging_table(None)
    old = Days(make_worker(tables=[forever]), forever)
    old.train([0, 1, 2])
    table = aging_table(2)
    days = Days(make_worker(tables=[table], servers=2), table, 1)
    days.worker.load(old.save(tmp_path / "cut"))
    days.worker.advance_day(50)
    days.train([0])
    days.worker.advance_day(52)
    assert days.present() == {0, 1, 2}
    days.train([1])
    days.worker.advance_day(53)
    assert days.present() == {1}
    # And the other way round: a table that has lost the option keeps what it is given.
    again = Days(make_worker(tables=[forever]), forever)
    again.worker.load(days.save(tmp_path / "again"))
    again.worker.advance_day(1000)
    assert again.present() == {1}


def test_a_new_day_is_refused_in_the_midst_of_a_batch() -> None:
    client = Client()
    assert client.send(LOOKUP, lookup_payload(1, [5])) is None
    assert client.send(ADVANCE_DAY, struct.pack("<I", 7)) == BATCHES_OUTSTANDING
    assert client.send(DISCARD, struct.pack("<Q", 1)) is None
    assert client.send(ADVANCE_DAY, struct.pack("<I", 7)) is None
    for wrong in (b"", struct.pack("<H", 7), struct.pack("<Q", 7)):
        assert client.send(ADVANCE_DAY, wrong) == MALFORMED
