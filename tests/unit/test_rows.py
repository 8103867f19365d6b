"""Raw rows hashed one by one in Python; that Spark makes the same is tested with Spark."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from persia_core.config import ModelConfig, load_config, parse_config
from persia_core.config.time_format import parse_time
from persia_core.data.batch import to_arrays
from persia_core.data.rows import hash_rows
from persia_core.data.schema import hashed_columns, schema_difference

CONFIGS = Path(__file__).parents[2] / "configs"
ROW = {"age": "40", "education": "Masters", "occupation": "Sales", "fnlwgt": "2.5", "income": ">50K"}


@pytest.fixture
def config() -> ModelConfig:
    return load_config(CONFIGS / "adult.yaml")


def test_rows_have_the_columns_of_a_hashed_partition(config: ModelConfig) -> None:
    table = hash_rows(config, [ROW, ROW | {"income": "<=50K."}]).table
    assert schema_difference(config, table.schema) is None
    assert table["label"].to_pylist() == [1.0, 0.0]
    assert table["weight"].to_pylist() == [2.5, 2.5]
    batch = to_arrays(config, table)
    assert len(batch.ids) == len(config.id_features)
    assert all(ids.shape == (2,) for ids in batch.ids)


def test_serving_gives_neither_label_nor_weight(config: ModelConfig) -> None:
    asked = {name: value for name, value in ROW.items() if name not in ("income", "fnlwgt")}
    with_label = hash_rows(config, [ROW]).table
    found = hash_rows(config, [asked], labelled=False)
    assert found.rejected == []
    assert found.table.column_names == [n for n in hashed_columns(config) if n not in ("label", "weight")]
    for name in found.table.column_names:
        assert found.table[name].to_pylist() == with_label[name].to_pylist()
    assert hash_rows(config, [], labelled=False).table.num_rows == 0


def test_a_rejected_row_has_its_place_and_reason(config: ModelConfig) -> None:
    rows: list[dict[str, Any]] = [
        ROW,
        ROW | {"age": "old"},
        ROW | {"fnlwgt": "-1"},
        ROW | {"income": "1"},
        {},
    ]
    found = hash_rows(config, rows)
    assert found.table.num_rows == 1
    assert found.rejected == [
        (1, "age: not a finite number"),
        (2, "weight: not a finite number of at least 0"),
        (3, "label: not one of positive_labels and negative_labels"),
        (4, "label: not one of positive_labels and negative_labels"),
    ]


def test_a_value_without_a_canonical_string_is_refused(config: ModelConfig) -> None:
    with pytest.raises(TypeError, match="bytes"):
        hash_rows(config, [ROW | {"education": b"Masters"}])


def test_times_come_as_numbers_text_or_datetimes(config: ModelConfig) -> None:
    document = config.model_dump(mode="json")
    document["dataset"]["time_column"] = "at"
    timed = parse_config(document, "the test")
    moment = datetime(2026, 11, 20, 1, 30, 0, 999_999, UTC)
    seconds = 1_795_138_200
    eastern = moment.astimezone(timezone(timedelta(hours=-5)))
    values = [seconds, str(seconds), float(seconds) + 0.5, moment, eastern, moment.replace(tzinfo=None)]
    found = hash_rows(timed, [ROW | {"at": value} for value in values])
    assert found.rejected == []
    assert set(found.table["time"].to_pylist()) == {seconds}


@pytest.mark.parametrize(
    ("text", "time_format", "expected"),
    [
        ("14102123", "%y%m%d%H", datetime(2014, 10, 21, 23, tzinfo=UTC)),
        ("2000-02-29 05:06:07", "%Y-%m-%d %H:%M:%S", datetime(2000, 2, 29, 5, 6, 7, tzinfo=UTC)),
        ("29.02.2000", "%d.%m.%Y", datetime(2000, 2, 29, tzinfo=UTC)),
        ("29x02x2000", "%d.%m.%Y", None),
        ("29.02.1900", "%d.%m.%Y", None),
        ("1.02.1900", "%d.%m.%Y", None),
        ("01.02.1900 ", "%d.%m.%Y", None),
        ("14102160", "%y%m%d%M", None),
    ],
)
def test_times_of_a_format(text: str, time_format: str, expected: datetime | None) -> None:
    assert parse_time(text, time_format) == (None if expected is None else int(expected.timestamp()))
