"""Reading UCI Adult: made-up lines in its form, and the real files where they are beside the checkout."""

import csv
import gzip
from pathlib import Path

import pytest

from persia_core.config import load_config
from persia_core.data.adult import CATEGORICAL, NUMERIC, TEST_DS, TRAIN_DS, read_adult, write_adult
from persia_core.errors import DataInvalid
from tests.support.hashed import hashed_table

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "adult"
HEAD = "|1x3 Cross validator\n"
ONE = "25, Private, 226802, 11th, 7, Never-married, ?, Own-child, Black, Male, 1, 2, 40, United-States, <=50K"
TWO = "38, ?, 89814, HS-grad, 9, Married, Farming, Husband, White, Female, 0, 0, 50, ?, >50K"


def test_both_forms_of_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").write_text(f"{ONE}\n{TWO}\n\n")
    (tmp_path / "test").write_text(f"{HEAD}{ONE}.\n{TWO}.\n\n")
    data, test = read_adult(tmp_path / "data"), read_adult(tmp_path / "test")
    assert data.equals(test)
    assert data["label"].tolist() == [0, 1]
    assert data["occupation"].tolist() == ["", "Farming"]
    assert data["native_country"].tolist() == ["United-States", ""]
    assert data[list(NUMERIC)].to_numpy().tolist() == [[25, 7, 1, 2, 40], [38, 9, 0, 0, 50]]
    assert list(data.columns) == [*CATEGORICAL, *NUMERIC, "label"]


@pytest.mark.parametrize("line", [ONE.replace("25,", "old,"), ONE.replace("<=50K", "rich"), "a,b,c"])
def test_another_file_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "data").write_text(line + "\n")
    with pytest.raises(DataInvalid, match="data: "):
        read_adult(tmp_path / "data")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"adult\.data"):
        read_adult(tmp_path / "adult.data")


@pytest.mark.skipif(not REAL.is_dir(), reason="UCI Adult is not beside the checkout (../shared/data/adult)")
def test_the_real_files_become_two_days_that_the_configuration_takes(tmp_path: Path) -> None:
    train, test = write_adult(REAL / "adult.data", REAL / "adult.test", tmp_path)
    assert (train.ds, train.rows, train.positives) == (TRAIN_DS, 32_561, 7_841)
    assert (test.ds, test.rows, test.positives) == (TEST_DS, 16_281, 3_846)
    with gzip.open(train.path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    config = load_config(ROOT / "configs" / "adult_dnn.yaml")
    table = hashed_table(config, {name: [row[name] for row in rows] for name in rows[0]})
    assert table.num_rows == 32_561
    for feature in config.dense_features:
        values = table[feature.name].to_numpy()
        assert abs(values.mean()) < 1e-2 and abs(values.std() - 1) < 1e-2, feature.name
    distinct = {feature.name: len(table[feature.name].unique()) for feature in config.id_features}
    expected = {feature.name: config.table(feature.table).expected_rows for feature in config.id_features}
    assert distinct == expected
