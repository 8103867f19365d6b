"""Rare values and samples of the vocabulary, against a Counter."""

import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from persia_core.config import ModelConfig, parse_config
from persia_core.data.hashing import hash_partition
from persia_core.data.rows import hash_rows
from tests.spark.oracle import DOCUMENT, signed_id
from tests.spark.support import DS, local_store, published

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

MIN_COUNT = 4


def config(min_count: int = MIN_COUNT, sample: int = 0) -> ModelConfig:
    tables = [table for table in DOCUMENT["tables"] if table["name"] in ("user", "city")]  # type: ignore[index, attr-defined]
    counted: dict[str, Any] = {"min_count": min_count, "vocabulary_sample": sample}
    return parse_config(
        DOCUMENT
        | {
            "features": [
                {"name": "user", "kind": "categorical", "table": "user", **counted},
                {"name": "city", "kind": "categorical", "table": "city", "missing": "zero"},
                {"name": "pair", "kind": "cross", "of": ["user", "city"], "table": "user"} | counted,
                {"name": "age", "kind": "dense"},
            ],
            "tables": tables,
            "data_checks": {"max_rejected_share": 0.5},
        },
        "the test",
    )


def rows_of(seed: int) -> list[tuple[str, str, str, str, str]]:
    rng = random.Random(seed)
    return [
        (
            rng.choice(["", *(str(n) for n in range(40) for _ in range(40 // (n + 1)))]),
            rng.choice(["", "a", "b"]),
            str(n),
            rng.choice(["1", "2", "2", "2", "old"]),
            "1",
        )
        for n in range(300)
    ]


def csv_of(rows: list[tuple[str, ...]]) -> bytes:
    return "\n".join(",".join(row) for row in [("user", "city", "at", "age", "clicked"), *rows]).encode()


def _among(column: Any, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    known = {id_ % 2**64 for id_ in column.to_pylist() if id_ is not None}
    return np.array([id_ in known for id_ in ids.tolist()])


def test_values_of_few_kept_rows_share_one_id(tmp_path: Path) -> None:
    rows = rows_of(1)
    kept = [row for row in rows if row[3] != "old"]
    store = local_store(tmp_path / "store", {"a.csv": csv_of(rows)})
    result = hash_partition(config(), store, DS)
    assert result.rows_kept == len(kept)
    manifest, table = published(store, tmp_path)
    users = Counter(row[0] for row in kept)
    rare, missing = signed_id("user", "\1"), signed_id("user", "\0")
    expected = [
        missing if not user else signed_id("user", user) if users[user] >= MIN_COUNT else rare
        for user, *_ in kept
    ]
    assert table["time"].to_pylist() == [int(row[2]) for row in kept]
    assert table["user"].to_pylist() == expected
    assert 0 < expected.count(rare) < len(kept)
    # Row by row, with the rows of a model that was trained on this partition, the same comes out.
    users_and_pairs = pa.chunked_array([*table["user"].chunks, *table["pair"].chunks])
    known = {"user": partial(_among, users_and_pairs), "city": partial(_among, table["city"])}
    names = ("user", "city", "at", "age", "clicked")
    one_by_one = hash_rows(config(), [dict(zip(names, row, strict=True)) for row in rows], known=known).table
    for name in ("user", "city", "pair"):
        assert one_by_one[name].to_pylist() == table[name].to_pylist()
    assert manifest.details["features"]["user"]["rare"] == expected.count(rare)
    assert "rare" not in manifest.details["features"]["city"]

    def member(text: str) -> str:
        return f"{len(text)}:{text}" if text else "-"

    features = manifest.details["features"]
    assert features["pair"]["missing"] == sum(not (row[0] and row[1]) for row in kept)
    assert features["user"]["missing"] == expected.count(missing) > 0
    pairs = Counter((row[0], row[1]) for row in kept)
    assert table["pair"].to_pylist() == [
        signed_id("user", member(row[0]) + member(row[1])) if pairs[row[:2]] >= MIN_COUNT else rare  # type: ignore[index]
        for row in kept
    ]


def test_a_sample_of_the_vocabulary_is_in_the_manifest(tmp_path: Path) -> None:
    rows = rows_of(2)
    kept = [row for row in rows if row[3] != "old"]
    store = local_store(tmp_path / "store", {"a.csv": csv_of(rows[:100]), "b.csv": csv_of(rows[100:])})
    hash_partition(config(min_count=1, sample=5), store, DS)
    manifest, _ = published(store, tmp_path)
    users = Counter(row[0] for row in kept if row[0])
    smallest = sorted(users, key=lambda user: signed_id("user", user))[:5]
    assert manifest.details["vocabulary"]["user"] == [
        {"value": user, "id": f"{signed_id('user', user) % 2**64:016x}", "rows": users[user]}
        for user in smallest
    ]
    assert len(manifest.details["vocabulary"]["pair"]) == 5
