"""hash_partition against a plain-Python transform: values, order, counts, determinism."""

import gzip
import io
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persia_core.config.data_checks import DataChecks
from persia_core.data.hashing import hash_partition
from persia_core.data.schema import schema_difference
from persia_core.errors import PersiaError
from persia_core.exit_codes import ExitCode
from persia_core.handoff.layout import hashed_prefix
from persia_core.handoff.s3_store import S3Store
from spark_jobs import hash_features
from tests.spark.oracle import BITS, COLUMNS, hashed_row, signed_id
from tests.spark.support import (
    DS,
    as_rows,
    config_of,
    csv_bytes,
    land,
    local_store,
    published,
    random_rows,
)

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]


def _assert_same_rows(table: pa.Table, expected: list[tuple[object, ...]]) -> None:
    """Equal as multisets; log1p of two libraries may differ in the last bit, so price is compared apart."""
    found = as_rows(table)
    price = table.column_names.index("price")
    assert Counter(_without(row, price) for row in found) == Counter(_without(row, price) for row in expected)
    np.testing.assert_allclose(
        np.sort(table["price"].to_numpy()), np.sort([row[price] for row in expected]), rtol=2e-7, atol=1e-7
    )


def _without(row: tuple[object, ...], position: int) -> tuple[object, ...]:
    return row[:position] + row[position + 1 :]


def test_a_csv_partition_is_what_plain_python_makes_of_it(tmp_path: Path) -> None:
    rows = random_rows(400, seed=1)
    shuffled_columns = random.Random(2).sample(COLUMNS, len(COLUMNS))
    store = local_store(
        tmp_path / "store",
        {
            "one.csv": csv_bytes(rows[:150]),
            "two [x].csv.gz": gzip.compress(csv_bytes(rows[150:], shuffled_columns)),
            "empty.csv": b"",
            "header-only.csv": csv_bytes([]),
            "_SUCCESS": b"",
        },
    )
    config = config_of()
    result = hash_partition(config, store, DS)
    manifest, table = published(store, tmp_path)
    expected = [hashed_row(row) for row in rows]

    assert schema_difference(config, table.schema) is None
    _assert_same_rows(table, expected)
    assert table["time"].to_pylist() == sorted(row[1] for row in expected)

    assert (result.rows_in, result.rows_kept, result.rejected, result.already_there) == (400, 400, {}, False)
    assert result.expected_collisions == {
        name: manifest.details["features"][name]["expected_collisions"]
        for name in ("user", "friend", "city", "genres", "hour", "weekday")
    }
    assert result.digest == manifest.digest
    assert manifest.schema_fingerprint == config.schema_fingerprint()
    assert manifest.details["rows_in"] == manifest.details["rows_kept"] == 400
    assert manifest.details["label_rate"] == pytest.approx(np.mean([row[0] for row in expected]))
    assert not any((tmp_path / "home" / "work").glob("hash-*"))
    _assert_statistics(manifest.details["features"], rows, expected, table.column_names)


def _assert_statistics(found: dict[str, Any], rows: Any, expected: Any, names: list[str]) -> None:
    missing = {"user": "User.Id", "friend": "friend", "city": "city"}
    for name, column in missing.items():
        assert found[name]["missing"] == sum(not row[column] for row in rows)
    bags = [row[names.index("genres")] for row in expected]
    genres = len({number for bag in bags for number in bag})
    assert found["genres"] == {
        "missing": sum(not bag for bag in bags),
        "distinct": genres,
        "expected_collisions": float(f"{math.comb(genres, 2) / 2 ** (64 - BITS):.3g}"),
    }
    assert found["city"]["distinct"] == 3
    assert found["price"]["missing"] == sum(
        (row["price"] or "nan") == "NaN" or not row["price"] for row in rows
    )
    ages = [row[names.index("age")] for row in expected]
    assert found["age"]["mean"] == pytest.approx(np.mean(ages))
    assert (found["age"]["min"], found["age"]["max"]) == (-1.0, 2.0)


def test_typed_parquet_gives_the_ids_of_the_same_text(tmp_path: Path) -> None:
    """Integers, whole floats and text of one value are one id, whatever the file's types."""
    users = [7, None, 9]
    bags = [["a", None, "b", "", "c", "d"], [], None]
    common = {
        "city": pa.array(["x", "", None]),
        "genres": pa.array(bags, pa.list_(pa.string())),
        "at": pa.array([10, 20, 30]),
        "price": pa.array([1.0, float("nan"), None]),
        "age": pa.array([40, 50, None], pa.int32()),
        "clicked": pa.array([True, False, True]),
    }
    kinds = {"user as int": pa.int32(), "user as double": pa.float64(), "user as uint64": pa.uint64()}
    files = {}
    for name, kind in kinds.items():
        buffer = io.BytesIO()
        columns = {"User.Id": pa.array(users, kind), "friend": pa.array(["7", None, "9"])}
        pq.write_table(pa.table(columns | common), buffer)
        files[f"{name}.parquet"] = buffer.getvalue()
    store = local_store(tmp_path / "store", files)
    hash_partition(config_of(format="parquet"), store, DS)
    _, table = published(store, tmp_path)
    user = {10: signed_id("user", "7"), 20: signed_id("user", "\0"), 30: signed_id("user", "9")}
    assert table["time"].to_pylist() == [10] * 3 + [20] * 3 + [30] * 3
    assert (
        table["user"].to_pylist()
        == table["friend"].to_pylist()
        == [user[t] for t in table["time"].to_pylist()]
    )
    genres = [[signed_id("genre", value) for value in "abc"], [], []]
    assert table["genres"].to_pylist() == [genre for genre in genres for _ in kinds]
    assert table["label"].to_pylist() == [1.0] * 3 + [0.0] * 3 + [1.0] * 3
    assert table["age"].to_pylist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 3


def test_tsv_and_json_lines_equal_the_csv(tmp_path: Path) -> None:
    rows = [
        row
        for row in random_rows(120, seed=3)
        if '"' not in (row["genres"] or "")  # a tsv has no quoting
    ]
    tsv = "".join(
        "\t".join(cells) + "\n" for cells in [COLUMNS, *([row[c] or "" for c in COLUMNS] for row in rows)]
    )
    lines = [dict(row) for row in rows]
    for number, line in enumerate(lines):
        if number % 2 and line["genres"] is not None:
            line["genres"] = line["genres"].split("|")  # type: ignore[assignment]
        if number % 3 == 0:
            line["at"] = int(line["at"] or "")  # type: ignore[assignment]
    jsonl = "".join(json.dumps(line, ensure_ascii=bool(n % 2)) + "\n" for n, line in enumerate(lines))
    tables = {}
    for kind, data in {"csv": csv_bytes(rows), "tsv": tsv.encode(), "jsonl": jsonl.encode()}.items():
        store = local_store(tmp_path / kind, {f"a.{kind}": data})
        hash_partition(config_of(format=kind), store, DS)
        tables[kind] = published(store, tmp_path)[1]
    _assert_same_rows(tables["csv"], [hashed_row(row) for row in rows])
    assert tables["tsv"].equals(tables["csv"])
    assert tables["jsonl"].equals(tables["csv"])


def test_the_digest_depends_on_the_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However rows are spread over files and tasks: the same bytes, and statistics to the last bit."""
    rows = random_rows(600, seed=4)
    manifests = []
    for attempt, tasks in enumerate([1, 3, 7]):
        monkeypatch.setattr(hash_features, "_BYTES_PER_TASK", max(1, len(csv_bytes(rows)) // tasks))
        rng = random.Random(attempt)
        rng.shuffle(rows)
        cuts = sorted(rng.sample(range(len(rows)), attempt + 1))
        pieces = [rows[low:high] for low, high in zip([0, *cuts], [*cuts, None], strict=True)]
        files = {f"{rng.random()}.csv": csv_bytes(piece) for piece in pieces}
        store = local_store(tmp_path / str(attempt), files)
        hash_partition(config_of(), store, DS)
        manifests.append(published(store, tmp_path)[0])
    assert manifests[0] == manifests[1] == manifests[2]
    assert manifests[0].details["rows_in"] == 600


def test_rows_without_a_time_are_not_ordered_by_label(tmp_path: Path) -> None:
    rows = random_rows(300, seed=5)
    document = config_of().model_dump(mode="json")
    document["features"] = [f for f in document["features"] if f["kind"] != "timestamp"]
    document["tables"] = [t for t in document["tables"] if t["name"] not in ("hour", "weekday")]
    document["dataset"]["time_column"] = None
    config = type(config_of()).model_validate(document)
    store = local_store(tmp_path / "store", {"a.csv": csv_bytes(rows)})
    hash_partition(config, store, DS)
    _, table = published(store, tmp_path)
    assert set(table["time"].to_pylist()) == {0}
    labels = table["label"].to_numpy()
    changes = int(np.count_nonzero(labels[1:] != labels[:-1]))
    assert changes > 75  # half of the neighbours differ in a random order; ordered ones differ once


def test_bad_rows_are_counted_by_reason(tmp_path: Path) -> None:
    good: dict[str, str | None] = {
        "User.Id": "1",
        "friend": "",
        "city": "",
        "genres": "",
        "at": "5",
        "price": "1",
        "age": "2",
        "clicked": "1",
    }
    changes: list[dict[str, str | None]] = [
        {},
        {"price": "cheap"},
        {"price": "-1"},  # log1p(-1) is no number
        {"price": "1d"},
        {"age": "inf"},
        {"age": "1e999"},
        {"at": ""},
        {"at": "yesterday"},
        {"at": "1700000000000"},  # milliseconds
        {"age": None},
    ]
    data = csv_bytes([good | change for change in changes]) + b"too,few\n" + b"1,2,3,4,5,6,7,1,9\n"
    store = local_store(tmp_path / "store", {"a.csv": data})
    config = config_of().model_copy(update={"data_checks": DataChecks(max_rejected_share=1.0)})
    result = hash_partition(config, store, DS)
    assert result.rejected == {
        "malformed row": 2,
        "time: missing": 1,
        "time: not Unix seconds": 2,
        "price: not a finite number": 3,
        "age: not a finite number": 2,
    }
    assert (result.rows_in, result.rows_kept) == (12, 2)
    manifest, table = published(store, tmp_path)
    assert manifest.details["rejected"] == result.rejected
    assert manifest.details["features"]["age"]["missing"] == 1
    assert table.num_rows == 2


def test_over_s3_and_hashed_again(s3_store: S3Store, tmp_path: Path) -> None:
    land(s3_store, {"a.csv": csv_bytes(random_rows(50, seed=7))})
    first = hash_partition(config_of(), s3_store, DS)
    keys = [info.key for info in s3_store.list(hashed_prefix("clicks", DS))]
    second = hash_partition(config_of(), s3_store, DS)
    assert (first.already_there, second.already_there) == (False, True)
    assert first.digest == second.digest == published(s3_store, tmp_path)[0].digest
    assert [info.key for info in s3_store.list(hashed_prefix("clicks", DS))] == keys
    with pytest.raises(PersiaError) as caught:
        hash_partition(config_of(salt="other"), s3_store, DS)
    assert caught.value.exit_code == ExitCode.STORAGE_CONFLICT
