"""The tests' own hashing and the product's agree: two implementations of one contract."""

import numpy as np
import pytest

from persia_core.ids import feature_id, feature_ids, feature_salt
from tests.support.hashed import hashed_table, make_id
from tests.support.small_config import small_config, small_rows


@pytest.mark.parametrize("value", ["", "0", "ä", "日本語", "x" * 33, "a b", "\0"])
@pytest.mark.parametrize("table", ["user", "hour"])
def test_ids_agree(table: str, value: str) -> None:
    config = small_config()
    dataset = config.dataset
    prefix = config.table(table).prefix
    salt = feature_salt(dataset.salt, table)
    assert make_id(config, table, value) == feature_id(prefix, dataset.prefix_bits, salt, value)
    assert feature_ids(prefix, dataset.prefix_bits, salt, [value]).tolist() == [make_id(config, table, value)]


def test_dense_values_follow_their_formula() -> None:
    rows = small_rows(4)
    rows["t"] = ["1", "2", "3", "4"]
    rows["price"] = ["0", "", None, "99.5"]
    rows["age"] = ["-3", "50", "1000", None]
    table = hashed_table(small_config(), rows)
    expected_price = np.array([(np.log1p(0.0) - 1) / 2, 0, 0, (np.log1p(99.5) - 1) / 2], np.float32)
    assert np.array_equal(table["price"].to_numpy(), expected_price)
    assert table["age"].to_pylist() == [0.0, 50.0, 100.0, -1.0]


def test_bags_are_split_and_cut_and_missing_values_follow_their_rule() -> None:
    config = small_config()
    rows = small_rows(3)
    rows["t"] = ["1", "2", "3"]
    rows["tags"] = ["a  b a c", "", None]
    rows["user"] = ["", None, "u"]
    rows["last"] = ["", None, "i"]
    table = hashed_table(config, rows)
    ids = [make_id(config, "tag", value) for value in ("a", "b", "a")]
    assert [np.array(bag, np.int64).view(np.uint64).tolist() for bag in table["tags"].to_pylist()] == [
        ids,
        [],
        [],
    ]
    missing, also, there = table["user"].to_pylist()
    assert missing == also == make_id(config, "user", "\0") and there == make_id(config, "user", "u")
    assert table["last"].to_pylist() == [None, None, make_id(config, "item", "i")]
