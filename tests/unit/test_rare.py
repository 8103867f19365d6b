"""Values without a row become the rare value, where a feature folds rare values; against a plain loop."""

from pathlib import Path

import numpy as np
import pytest

from persia_core.config import ModelConfig, parse_config
from persia_core.data.rows import hash_rows
from persia_core.handoff.embedding_file import EmbeddingFile, EmbeddingWriter
from persia_core.handoff.embedding_rows import EmbeddingRows
from tests.support.hashed import make_id, signed
from tests.support.small_config import small_config

ROWS = [
    {"t": "5", "user": user, "item": item, "last": last, "price": "1", "age": "2", "tags": "a"}
    for user, item, last in [("u1", "i1", None), ("new", "new", "new"), (None, "i1", "i1"), ("u2", "", "i9")]
]


@pytest.fixture
def config() -> ModelConfig:
    document = small_config().model_dump(mode="json")
    for feature in document["features"]:
        if feature["name"] in ("user", "last"):
            feature["min_count"] = 3
    return parse_config(document, "the test")


def table_of(config: ModelConfig, name: str, values: list[str]) -> EmbeddingRows:
    ids = np.array(sorted(make_id(config, name, value) for value in values), dtype=np.uint64)
    return EmbeddingRows(ids, np.zeros((len(ids), 4), np.float32))


def test_what_has_no_row_is_rare_where_rare_values_are_folded(config: ModelConfig) -> None:
    known = {"user": table_of(config, "user", ["u1"]).holds, "item": table_of(config, "item", ["i1"]).holds}
    table = hash_rows(config, ROWS, labelled=False, known=known).table
    rare = signed(make_id(config, "user", "\1"))
    missing = signed(make_id(config, "user", "\0"))  # without a row, and yet no rare value
    assert table["user"].to_pylist() == [signed(make_id(config, "user", "u1")), rare, missing, rare]
    rare, i1 = signed(make_id(config, "item", "\1")), signed(make_id(config, "item", "i1"))
    assert table["last"].to_pylist() == [None, rare, i1, rare]
    untouched = hash_rows(config, ROWS, labelled=False).table
    assert untouched["user"].to_pylist()[1] == signed(make_id(config, "user", "new"))
    for name in set(table.column_names) - {"user", "last"}:
        assert table[name] == untouched[name]
    assert table.schema == untouched.schema


def test_a_table_says_which_ids_it_holds_in_memory_and_in_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.unique(rng.integers(0, 2**64, 50, dtype=np.uint64))
    rows = EmbeddingRows(ids, np.zeros((len(ids), 1), np.float32))
    ends = np.array([0, 2**64 - 1], dtype=np.uint64)
    asked = np.concatenate([ids[::3], rng.integers(0, 2**64, 50, dtype=np.uint64), ends])
    held = set(ids.tolist())
    empty = EmbeddingRows(ids[:0], np.zeros((0, 1), np.float32))
    for number, table in enumerate((rows, empty)):
        with EmbeddingWriter(tmp_path / f"{number}.parquet", "float32", 1) as writer:
            writer.write(table)
        file = EmbeddingFile(tmp_path / f"{number}.parquet", "float32", 1, len(table))
        expected = [len(table) > 0 and id_ in held for id_ in asked.tolist()]
        assert table.holds(asked).tolist() == file.holds(asked).tolist() == expected
