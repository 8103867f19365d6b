"""Rows leave a store in chunks and come back: the same rows, whatever the chunk, the threads and the type."""

from typing import Any

import numpy as np
import pytest
from reference import id_of, make_table

from persia_core import _native

SEED = 9
TABLE = make_table("t", 1, 2, optimizer={"kind": "sgd", "learning_rate": 1.0})
ADAM = {"kind": "adam", "learning_rate": 0.05, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6}


def trained(table: dict[str, Any], threads: int, ids: Any) -> _native.Store:
    store = _native.Store(table, SEED, threads=threads)
    rng = np.random.default_rng(1)
    for step in range(3):
        store.lookup(ids, True)
        store.update(ids, rng.standard_normal((len(ids), table["dim"]), dtype=np.float32), 1.0, step)
    return store


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("weight_type", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_exported_rows_make_the_same_table(threads: int, weight_type: str, chunk: int) -> None:
    table = make_table("t", 1, 6, optimizer=ADAM, weight_type=weight_type)
    ids = np.array([id_of(TABLE, key) for key in range(100)], np.uint64)
    store = trained(table, threads, ids)

    found: dict[int, Any] = {}
    other = _native.Store(table, SEED + 1, threads=4 - threads)
    for chunk_ids, weights, state, last_used in store.export(chunk):
        assert 0 < len(chunk_ids) <= chunk
        assert weights.dtype == np.float32
        assert state.shape == (len(chunk_ids), 2 * 6 + 1)
        for i, key in enumerate(chunk_ids.tolist()):
            assert key not in found
            found[key] = (weights[i], state[i])
        assert other.insert(chunk_ids, weights, state, last_used) == len(chunk_ids)

    assert sorted(found) == sorted(ids.tolist())
    np.testing.assert_array_equal(np.array([found[key][0] for key in ids.tolist()]), store.lookup(ids, False))
    assert all(state[-1] == 3 for _, state in found.values())  # Adam's steps
    # State came too: both go on alike.
    gradients = np.full((len(ids), 6), 0.25, np.float32)
    for each in (store, other):
        each.update(ids, gradients)
    if weight_type == "float32":  # the rounding of the others depends on the seed, which differs
        np.testing.assert_array_equal(store.lookup(ids, False), other.lookup(ids, False))


def test_recency_comes_with_the_rows() -> None:
    row = 4 * 2 + 24
    table = make_table("t", 1, 2, optimizer={"kind": "sgd", "learning_rate": 1.0}, capacity_bytes=3 * row)
    first, second, third, fourth = (np.array([id_of(TABLE, key)], np.uint64) for key in range(4))
    store = _native.Store(table, SEED)
    for ids in (second, first, third, second):
        store.lookup(ids, True)
    other = _native.Store(table, SEED)
    for chunk in store.export():
        other.insert(*chunk)
    other.lookup(fourth, True)
    assert [bool(other.lookup(ids, False).any()) for ids in (first, second, third)] == [False, True, True]
    assert other.stats()["evicted"] == 1


def test_rows_that_are_there_stay() -> None:
    store = _native.Store(TABLE, SEED)
    ids = np.array([id_of(TABLE, 1), id_of(TABLE, 2)], np.uint64)
    before = store.lookup(ids[:1], True)
    assert store.insert(ids, np.ones((2, 2), np.float32), np.empty((2, 0), np.float32)) == 1
    np.testing.assert_array_equal(store.lookup(ids, False), np.concatenate([before, np.ones((1, 2))]))


def test_a_store_that_changes_ends_its_export() -> None:
    store = _native.Store(TABLE, SEED)
    store.lookup(np.array([id_of(TABLE, key) for key in range(10)], np.uint64), True)
    export = store.export(3)
    next(export)
    store.lookup(np.array([id_of(TABLE, 10)], np.uint64), True)
    with pytest.raises(RuntimeError, match="changed"):
        next(export)


def test_wrong_shapes_and_prefixes_are_refused() -> None:
    table = make_table("t", 1, 2, optimizer=ADAM)
    store = _native.Store(table, SEED)
    ids, weights = np.array([id_of(TABLE, 1)], np.uint64), np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match="state"):
        store.insert(ids, weights, np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="prefix"):
        store.insert(np.array([id_of(TABLE, 1) ^ (1 << 63)], np.uint64), weights, np.ones((1, 5), np.float32))
    with pytest.raises(ValueError, match="rows"):
        store.export(0)
    assert store.stats()["rows"] == 0
