"""Ids against the xxhash package and plain-integer arithmetic."""

from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from reference import initial_row, make_table, mix64

from persia_core import _native

UINT64 = st.integers(0, 2**64 - 1)


@given(st.binary(max_size=200), UINT64)
def test_xxh64_equals_the_reference_implementation(data: bytes, seed: int) -> None:
    assert _native.xxh64(data, seed) == xxhash.xxh64(data, seed=seed).intdigest()


def test_xxh64_of_every_length_up_to_three_stripes() -> None:
    data = bytes(range(100))
    for size in range(len(data) + 1):
        assert _native.xxh64(data[:size], 42) == xxhash.xxh64(data[:size], seed=42).intdigest()


@given(UINT64)
def test_mix64_equals_plain_integers(value: int) -> None:
    assert _native.mix64(value) == mix64(value)


@given(st.lists(UINT64, max_size=20), st.integers(1, 1024))
def test_server_of_is_mix64_modulo_servers(ids: list[int], servers: int) -> None:
    found = _native.server_of(np.array(ids, dtype=np.uint64), servers)
    assert found.dtype == np.uint32
    assert found.tolist() == [mix64(i) % servers for i in ids]


def test_server_of_spreads_ids_evenly() -> None:
    ids = np.arange(40_000, dtype=np.uint64) + np.uint64(1 << 56)
    counts = np.bincount(_native.server_of(ids, 4), minlength=4)
    assert counts.min() > 9_600
    assert counts.max() < 10_400


@given(st.integers(1, 16), st.data())
def test_make_id_puts_the_prefix_above_the_hash(bits: int, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(0, 2**bits - 1))
    value = data.draw(st.binary(max_size=50))
    expected = prefix << (64 - bits) | xxhash.xxh64(value, seed=42).intdigest() >> bits
    assert _native.make_id(prefix, bits, value) == expected


def test_a_prefix_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix"):
        _native.make_id(256, 8, b"")


@given(UINT64, st.lists(UINT64, max_size=5), st.integers(1, 40))
def test_initial_rows_equal_the_formula(seed: int, ids: list[int], dim: int) -> None:
    table = make_table("t", 1, dim)
    rows = _native.initial_rows(table, seed, np.array(ids, dtype=np.uint64))
    assert rows.shape == (len(ids), dim)
    for row, key in zip(rows, ids, strict=True):
        np.testing.assert_array_equal(row, initial_row(table, seed, key))


def test_zeros_are_an_initializer() -> None:
    table = make_table("t", 1, 3, initializer={"kind": "zeros"})
    assert not _native.initial_rows(table, 1, np.array([7], dtype=np.uint64)).any()


def test_wrong_tables_are_named() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"dim": 0}, "dim"),
        ({"prefix": 256}, "prefix"),
        ({"pooling": "max"}, "pooling"),
        (
            {"optimizer": {"kind": "sgd", "learning_rate": 0.1, "beta1": 0.9}},
            "optimizer has an unknown key",
        ),
        ({"initializer": {"kind": "uniform", "low": 1.0, "high": 1.0}}, "low < high"),
        ({"colour": "red"}, "unknown key"),
    ]
    for changes, message in cases:
        with pytest.raises(ValueError, match=message):
            _native.initial_rows(make_table("t", 1, 2) | changes, 1, np.array([], dtype=np.uint64))
