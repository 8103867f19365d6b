"""Ids in Python and C++ against golden vectors, and the rules of canonical values."""

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core import _native  # a build without it is broken: no skip
from persia_core.ids import MISSING, canonical, cross, feature_id, feature_ids, feature_salt

GOLDEN: list[dict[str, Any]] = json.loads(
    Path(__file__).parents[1].joinpath("golden", "ids.json").read_text(encoding="utf-8")
)


def _value(vector: dict[str, Any]) -> object:
    value = vector["value"]
    if vector["type"] == "uint64" and value is not None:
        return np.uint64(value)
    if value is None or vector["type"] not in ("float64", "float32"):
        return value
    number = float.fromhex(value)
    return np.float32(number) if vector["type"] == "float32" else number


def _name(vector: dict[str, Any]) -> str:
    return f"{vector['type']}:{str(vector['value'])[:20]!r}:{vector['prefix_bits']}"


def test_the_golden_file_covers_every_rule() -> None:
    assert len(GOLDEN) >= 200
    kinds = {"string", "bool", "int8", "int16", "int32", "int64", "uint64", "float32", "float64", "cross"}
    assert {vector["type"] for vector in GOLDEN} == kinds
    sizes = {len(str(vector["value"]).encode()) for vector in GOLDEN if vector["type"] == "string"}
    assert {31, 32, 33, 100, 10_000} <= sizes


@pytest.mark.parametrize("vector", GOLDEN, ids=_name)
def test_canonical_strings_are_the_golden_ones(vector: dict[str, Any]) -> None:
    if vector["type"] == "cross":
        assert cross(*vector["value"]) == vector["canonical"]
    else:
        assert canonical(_value(vector)) == vector["canonical"]


@pytest.mark.parametrize("vector", GOLDEN, ids=_name)
def test_ids_are_the_golden_ones_in_python_and_cpp(vector: dict[str, Any]) -> None:
    expected = int(vector["id"], 16)
    scheme = (vector["prefix"], vector["prefix_bits"], vector["salt"])
    assert feature_id(*scheme, vector["canonical"]) == expected
    assert feature_ids(*scheme, [vector["canonical"]]).tolist() == [expected]
    text = vector["salt"] + ("\0" if vector["canonical"] is None else vector["canonical"])
    assert _native.make_id(vector["prefix"], vector["prefix_bits"], text.encode()) == expected


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))), st.integers(1, 16))
def test_many_ids_are_the_single_ones(values: list[str | None], bits: int) -> None:
    ids = feature_ids(1, bits, "s/t/", values)
    assert ids.dtype == np.uint64
    assert ids.tolist() == [feature_id(1, bits, "s/t/", value) for value in values]
    assert all(number >> (64 - bits) == 1 for number in ids.tolist())


@given(st.floats(allow_nan=False))
def test_the_canonical_string_of_a_float_loses_nothing(value: float) -> None:
    text = canonical(value)
    assert text is not None
    back = float.fromhex(text) if "x" in text else float(text)
    assert back == value


@given(st.integers(-(2**53), 2**53))
def test_a_whole_float_is_the_integer(value: int) -> None:
    assert canonical(float(value)) == canonical(value) == canonical(np.int64(value)) == str(value)


def test_missing_values_are_null_nan_and_the_empty_string() -> None:
    assert [canonical(value) for value in (None, "", math.nan, np.float32("nan"))] == [None] * 4
    assert feature_id(3, 8, "s/", None) == feature_id(3, 8, "s/", MISSING)


@given(*[st.tuples(*[st.one_of(st.none(), st.text("12:-é", max_size=6))] * 2)] * 2)
def test_no_two_pairs_are_joined_alike(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (cross(*one) == cross(*other)) == (one == other)


def test_a_whole_decimal_is_the_integer_and_other_types_are_refused() -> None:
    assert canonical(Decimal("18446744073709551615")) == "18446744073709551615"
    for value in (Decimal("0.5"), b"bytes", [1], object()):
        with pytest.raises(TypeError, match="no canonical string"):
            canonical(value)


def test_features_of_one_table_share_ids_and_others_do_not() -> None:
    user, item = feature_salt("demo", "user"), feature_salt("demo", "item")
    assert feature_id(1, 8, user, "7") == feature_id(1, 8, feature_salt("demo", "user"), "7")
    low = (1 << 56) - 1
    assert feature_id(1, 8, user, "7") & low != feature_id(2, 8, item, "7") & low
    assert feature_id(1, 8, user, "7") != feature_id(1, 8, feature_salt("other", "user"), "7")


@pytest.mark.parametrize(("prefix", "bits"), [(256, 8), (-1, 8), (2, 1), (1, 0), (1, 17)])
def test_a_prefix_that_does_not_fit_is_refused(prefix: int, bits: int) -> None:
    with pytest.raises(ValueError, match="prefix"):
        feature_id(prefix, bits, "", "a")
    with pytest.raises(ValueError, match="prefix"):
        feature_ids(prefix, bits, "", ["a"])


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        feature_id(1, 8, "", "\ud800")
