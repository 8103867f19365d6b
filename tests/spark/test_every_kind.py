"""Every kind of feature, hashed by Spark and by Python, on random and on edge values: the same rows."""

import json
import math
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persia_core.config import ModelConfig, parse_config
from persia_core.data.rows import hash_rows
from persia_core.data.schema import hashed_columns
from spark_jobs.raw_files import local_file
from spark_jobs.readers import read_raw
from tests.spark.oracle import signed_id

pytestmark = pytest.mark.spark

TABLES = ("user", "genre", "city", "hour", "weekday")
NUMBERS = [
    "0",
    "-0.0",
    "1",
    " 7.5 ",
    "-3",
    "1e-5",
    "1e7",
    "1e21",
    "4.9e-324",
    "3.4e38",
    "1e39",
    "-1",
    "+5.",
    ".5",
]
NUMBERS += ["0.30000000000000004", "17.999999999999996", "18", "18.000000000000004", "64.5", "-1e308"]
NO_NUMBERS = [
    "",
    " ",
    "NaN",
    "nan ",
    "NAN",
    "inf",
    "-Infinity",
    "1d",
    "0x1p3",
    "1\n",
    "7\u2028",
    "1e999",
    "٣",
    "x",
    "?",
]
TEXTS = [
    "a",
    "ü",
    "東京",
    "",
    " ",
    "\0",
    "a\0b",
    "😀",
    "NaN",
    "?",
    "-",
    "1:a",
    "2:",
    "q" * 40,
    "0",
    "-0.0",
    "tab\t",
    "A",
]
INTEGERS = [0, 1, -1, 7, 18, 2**31 - 1, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63)]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    0.1,
    1e-5,
    1e7,
    1e21,
    5e-324,
    1.7e308,
    math.inf,
    -math.inf,
    math.nan,
    18.0,
    -1.0,
    2.0**53,
]


def document(**dataset: object) -> dict[str, Any]:
    """A feature of every kind with every rule for missing values."""
    number = {"column": "number", "missing_values": ["?", "7"]}
    amount = {"column": "amount", "missing_values": ["?", "7"]}
    text = {"column": "text", "missing_values": ["?"]}
    return {
        "name": "kinds",
        "dataset": {
            "name": "kinds",
            "format": "parquet",
            "time_column": "at",
            "salt": "test",
            "prefix_bits": 12,
            "weight": "weight",
        }
        | dataset,
        "features": [
            {"name": "early", "kind": "cross", "of": ["one", "range"], "table": "user", "missing": "zero"},
            {"name": "plain", "kind": "dense", "mean": 1.5, "std": 0.7, "missing": -7.25, **number},
            {"name": "log", "kind": "dense", "transform": "log1p", "clip": [-1.0, 3.0], **number},
            {"name": "one", "kind": "categorical", "table": "user", **text},
            {"name": "two", "kind": "categorical", "table": "city", "column": "other", "missing": "zero"},
            {"name": "bag", "kind": "multi-categorical", "table": "genre", "delimiter": "|", "max_length": 3}
            | {"missing_values": ["?"]},
            {"name": "latest", "kind": "multi-categorical", "table": "genre", "column": "bag", "keep": "last"}
            | {"delimiter": "|", "max_length": 2, "missing_values": ["?"]},
            {
                "name": "range",
                "kind": "bucketised",
                "table": "city",
                "boundaries": [-0.5, 0, 18, 64.5],
                **amount,
            },
            {
                "name": "range_zero",
                "kind": "bucketised",
                "table": "city",
                "boundaries": [1e-5],
                "missing": "zero",
            }
            | amount,
            {"name": "pair", "kind": "cross", "of": ["one", "two"], "table": "user"},
            {"name": "pair_of_time", "kind": "cross", "of": ["weekday", "range"], "table": "user"},
            {"name": "hour", "kind": "timestamp", "part": "hour", "table": "hour"},
            {"name": "weekday", "kind": "timestamp", "part": "weekday", "table": "weekday"},
        ],
        "tables": [
            {"name": name, "prefix": prefix, "dim": 4, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
            for prefix, name in enumerate(TABLES, start=1)
        ],
        "training": {"model": "persia_core.models.dlrm:DLRM"},
        "storage": {"url": "file:///unused"},
    }


def config_of(reject: bool = False, **dataset: object) -> ModelConfig:
    found = document(**dataset)
    if reject:
        for feature in found["features"]:
            if feature["kind"] != "timestamp":
                feature["missing"] = "reject"
    return parse_config(found, "the test")


def text_rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)

    def number() -> str | None:
        kind = rng.random()
        if kind < 0.4:
            return repr(rng.uniform(-3, 100))
        return rng.choice(NUMBERS) if kind < 0.8 else rng.choice([*NO_NUMBERS, None])

    return [
        {
            "number": number(),
            "amount": number(),
            "text": rng.choice([*TEXTS, None]),
            "other": rng.choice([*TEXTS, None]),
            "bag": rng.choice(["|".join(rng.choices(TEXTS, k=rng.randrange(6))), None]),
            "at": rng.choice(
                [str(rng.randrange(-(10**10), 10**10)), "12.9", "-0.5", " 3 ", "x", "", None, "1e13"]
            ),
            "weight": rng.choice(
                ["1", "0", "-0.0", "2.5", "1e-50", "1.5", "3", "-1", "NaN", "", None, "1e39"]
            ),
            "label": rng.choice(["0", "1", "1.0", "-0", " 1", "2", "", None, "yes"]),
        }
        for _ in range(count)
    ]


def typed_columns(seed: int, count: int) -> dict[str, Any]:
    """Columns of several types, and for each the Python values that Parquet holds."""
    rng = random.Random(seed)

    def one_of(columns: list[Any]) -> Any:
        return columns[seed % len(columns)]

    def some(values: list[Any]) -> list[Any]:
        return [rng.choice([*values, None]) for _ in range(count)]

    float32 = [float(np.float32(value)) if abs(value) < 3e38 else math.inf for value in FLOATS]
    moments = [datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), datetime(2000, 2, 29, 5, tzinfo=UTC)]
    decimals = [Decimal(2**64 - 1), Decimal(0), Decimal(7), Decimal(18)]
    bags: list[Any] = [rng.choices([*INTEGERS, None], k=rng.randrange(6)) for _ in range(9)]
    numbers = [
        pa.array(some(FLOATS), pa.float64()),
        pa.array(some(float32), pa.float32()),
        pa.array(some(INTEGERS), pa.int64()),
        pa.array(some([True, False]), pa.bool_()),
        pa.array(some(decimals), pa.decimal128(20)),
    ]
    return {
        "number": one_of(numbers),
        "amount": one_of(numbers[::-1]),
        "text": one_of(
            [
                pa.array(some(INTEGERS), pa.int64()),
                pa.array(some([-(2**15), 0, 7]), pa.int16()),
                pa.array(some([True, False]), pa.bool_()),
                pa.array(some([2**64 - 1, 0, 7]), pa.uint64()),
            ]
        ),
        "other": one_of([pa.array(some(FLOATS), pa.float64()), pa.array(some(float32), pa.float32())]),
        "bag": one_of(
            [pa.array(some(bags), pa.list_(pa.int64())), pa.array(some([FLOATS[3:]]), pa.list_(pa.float64()))]
        ),
        "at": one_of(
            [
                pa.array(some(moments), pa.timestamp("us", "UTC")),
                pa.array(some([0, -1, 10**13]), pa.int64()),
                pa.array(some([0.5, -0.5, math.nan, 1e300]), pa.float64()),
            ]
        ),
        "weight": pa.array(some([0.0, -0.0, 1.5, -1.0, math.nan]), pa.float64()),
        "label": one_of([pa.array(some([True, False]), pa.bool_()), pa.array(some([0, 1, 2]), pa.int8())]),
    }


def by_spark(spark: Any, config: ModelConfig, path: Path) -> list[tuple[str | None, tuple[Any, ...]]]:
    """(reason, values) of every row, in order of the file."""
    from spark_jobs.transform import REASON, transform

    (raw,) = read_raw(spark, config, [local_file(path, str(path))])
    found = transform(raw, config).coalesce(1).collect()
    names = list(hashed_columns(config))
    missing = {feature.name: feature.missing for feature in config.dense_features}
    return [
        (row[REASON], tuple(missing.get(name) if row[name] is None else row[name] for name in names))
        for row in found
    ]


def assert_same(
    spark: Any, config: ModelConfig, path: Path, rows: list[dict[str, Any]]
) -> tuple[int, set[str]]:
    found = by_spark(spark, config, path)
    python = hash_rows(config, rows)
    assert len(found) == len(rows)
    reasons = [(n, reason) for n, (reason, _) in enumerate(found) if reason is not None]
    assert reasons == python.rejected
    kept = [values for reason, values in found if reason is None]
    assert len(kept) == python.table.num_rows
    for position, name in enumerate(python.table.column_names):
        expected = python.table[name].to_pylist()
        values = [row[position] for row in kept]
        if name == "log":  # two libraries' log1p may differ in the last bit of float64
            np.testing.assert_array_max_ulp(np.float32(values), np.float32(expected), maxulp=1)
        else:
            assert values == expected, name
    return len(kept), {reason for _, reason in reasons}


def write(path: Path, columns: dict[str, Any]) -> list[dict[str, Any]]:
    table = pa.table(columns)
    pq.write_table(table, path)
    return table.to_pylist()


def test_text_values(spark: Any, tmp_path: Path) -> None:
    rows = text_rows(3000, seed=1)
    path = tmp_path / "a.parquet"
    write(path, {name: pa.array([row[name] for row in rows], pa.string()) for name in rows[0]})
    kept, reasons = assert_same(spark, config_of(), path, rows)
    assert kept > 200
    assert len(reasons) == 7  # all but "malformed row", which is no matter of values
    kept, more = assert_same(spark, config_of(reject=True), path, rows)
    assert kept > 20
    assert {"early: missing", "plain: missing", "two: missing", "bag: missing"} <= more


@pytest.mark.parametrize("seed", range(5))
def test_typed_values(spark: Any, tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.parquet"
    rows = write(path, typed_columns(seed, 300))
    assert_same(spark, config_of(reject=seed % 4 == 0), path, rows)


def test_labels_and_times_in_words(spark: Any, tmp_path: Path) -> None:
    config = config_of(positive_labels=[">50K", "x"], negative_labels=["<=50K"], time_format="%y%m%d%H")
    times = ["14102100", "14023001", "14022823", "00010100", "99123123", "14102124", "1410210", "14102100\n"]
    times += [" 4102100", "140230٠1", "", "24022900", "23022900"]
    rng = random.Random(3)
    rows = text_rows(400, seed=2)
    for row in rows:
        row |= {"at": rng.choice(times), "label": rng.choice([">50K", "x", "<=50K", "<=50K.", None, "1"])}
        row["weight"] = "1"
        row["number"] = row["amount"] = "3"
    path = tmp_path / "a.parquet"
    write(path, {name: pa.array([row[name] for row in rows], pa.string()) for name in rows[0]})
    kept, reasons = assert_same(spark, config, path, rows)
    assert kept > 50
    assert len(reasons) == 3
    moments = hash_rows(config, rows).table["time"].to_pylist()
    assert int(datetime(2014, 10, 21, tzinfo=UTC).timestamp()) in moments
    assert int(datetime(2024, 2, 29, tzinfo=UTC).timestamp()) in moments


def test_json_lines_give_the_ids_of_their_characters(spark: Any, tmp_path: Path) -> None:
    rows = [
        {
            "number": "7.5",
            "amount": "1",
            "text": "07",
            "other": "1e2",
            "bag": ["a", "", "ü"],
            "at": "3",
            "weight": "1",
            "label": "1",
        },
        {
            "number": "-1.0",
            "amount": "",
            "text": "true",
            "other": "-0.0",
            "bag": "a|b",
            "at": "3",
            "weight": "2",
            "label": "0",
        },
    ]
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(row).replace('"1e2"', "1e2").replace('"-0.0"', "-0.0") for row in rows]
    path.write_text("\n".join(lines) + "\n")
    kept, _ = assert_same(spark, config_of(format="jsonl"), path, rows)
    assert kept == 1  # log1p(-1) is no number


def test_ids_are_those_of_the_contract() -> None:
    """The strings of docs/formats/ids.md, written out: so that Spark and Python are not wrong alike."""
    row = {
        "number": "18",
        "amount": "18",
        "text": "ü",
        "other": None,
        "bag": "b|?||c",
        "at": "345600",
        "weight": "2.5",
        "label": "1",
    }
    (found,) = hash_rows(config_of(), [row]).table.to_pylist()
    assert found["range"] == signed_id("city", "3")
    assert found["pair"] == signed_id("user", "2:ü-")
    assert found["early"] == signed_id("user", "2:ü1:3")
    assert found["pair_of_time"] == signed_id("user", "1:01:3")  # 1970-01-05 was a Monday
    assert found["bag"] == [signed_id("genre", "b"), signed_id("genre", "c")]
    (long,) = hash_rows(config_of(), [row | {"bag": "a|?|b||c|d|?"}]).table.to_pylist()
    assert long["bag"] == [signed_id("genre", text) for text in "abc"]
    assert long["latest"] == [signed_id("genre", text) for text in "cd"]
    assert found["two"] is None
    assert found["weight"] == 2.5
    (seven,) = hash_rows(config_of(), [row | {"number": " 7 ", "amount": "7", "text": "?"}]).table.to_pylist()
    assert seven["plain"] == -7.25
    assert seven["range"] == signed_id("city", "\0")
    assert seven["one"] == signed_id("user", "\0")
    assert seven["pair"] == signed_id("user", "--")
