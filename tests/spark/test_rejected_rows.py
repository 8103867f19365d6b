"""Rejected rows: which ones, why, in which file and line; and what too many of them do."""

import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persia_core.config import ModelConfig, parse_config
from persia_core.data.hashing import hash_partition
from persia_core.errors import DataInvalid
from persia_core.handoff.layout import hashed_prefix, raw_prefix
from persia_core.handoff.local_store import LocalStore
from tests.spark.oracle import DOCUMENT
from tests.spark.support import DS, local_store, rejected_rows

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

COLUMNS = ["clicked", "at", "price", "age"]
GOOD = ["1", "5", "2.5", "40"]
BAD = {
    "price: not a finite number": ["1", "5", "cheap", "40"],
    "age: not a finite number": ["0", "6", "1", "inf"],
    "time: missing": ["0", "", "1", "3"],
    "time: not Unix seconds": ["1", "now", "1", "3"],
    "malformed row": ["1", "2"],
}


@pytest.fixture(autouse=True)
def _small_splits(spark: Any) -> Iterator[None]:
    """Files are split every 200 bytes, so that lines have to be counted over splits."""
    key = "spark.sql.files.maxPartitionBytes"
    before = spark.conf.get(key)
    spark.conf.set(key, "200")
    yield
    spark.conf.set(key, before)


def config(share: float = 1.0, **dataset: object) -> ModelConfig:
    document: dict[str, Any] = DOCUMENT | {
        "dataset": DOCUMENT["dataset"] | dataset,  # type: ignore[operator]
        "features": [
            {"name": "price", "kind": "dense", "transform": "log1p"},
            {"name": "age", "kind": "dense"},
            {"name": "hour", "kind": "timestamp", "part": "hour", "table": "hour"},
        ],
        "tables": [{"name": "hour", "prefix": 4, "dim": 4, "optimizer": {"kind": "sgd", "learning_rate": 1}}],
        "data_checks": {"max_rejected_share": share},
    }
    return parse_config(document, "the test")


def lines_with_faults(separator: str, extra: list[str]) -> tuple[list[str], list[tuple[int, str, str]]]:
    """Lines, and (number from 1, reason, line) of the bad ones. `extra` lines hold no row at all."""
    lines, bad = [], []
    for number in range(120):
        if number % 7 == 3:
            reason, cells = list(BAD.items())[number % len(BAD)]
            lines.append(separator.join(cells))
            bad.append((len(lines), reason, lines[-1]))
        else:
            lines.append(separator.join(GOOD))
        lines += extra if number % 10 == 0 else []
    return lines, bad


@pytest.mark.parametrize(("end", "packed"), [("\n", False), ("\r\n", False), ("\r", False), ("\r\n", True)])
def test_rows_of_csv_are_kept_with_file_and_line(tmp_path: Path, end: str, packed: bool) -> None:
    lines, bad = lines_with_faults(",", ["", "  ", "# 1,2,3,4"])
    top = ["# made by hand", "", ",".join(COLUMNS)]
    data = end.join([*top, *lines, ""]).encode()
    other = end.join([",".join(COLUMNS), *lines[:30]]).encode()  # without an end of its last line
    pack: Callable[[bytes], bytes] = gzip.compress if packed else bytes
    ending = ".csv.gz" if packed else ".csv"
    store = local_store(tmp_path / "store", {f"a{ending}": pack(data), f"b{ending}": pack(other)})
    result = hash_partition(config(comment="#"), store, DS)
    manifest, found = rejected_rows(store, tmp_path)
    a, b = (store.uri(f"{raw_prefix('clicks', DS)}{name}{ending}") for name in "ab")
    expected = [(a, line + len(top), reason, text) for line, reason, text in bad]
    expected += [(b, line + 1, reason, text) for line, reason, text in bad if line <= 30]
    assert found == expected
    assert manifest.details["rejected"] == result.rejected
    assert sum(result.rejected.values()) == len(expected)
    assert result.rows_in == 120 + sum(bool(text.strip()) and text[0] != "#" for text in lines[:30])


def test_rows_of_tsv_without_a_header(tmp_path: Path) -> None:
    lines, bad = lines_with_faults("\t", [])
    store = local_store(tmp_path / "store", {"a.tsv": "\n".join(lines).encode()})
    result = hash_partition(config(format="tsv", columns=COLUMNS), store, DS)
    uri = store.uri(f"{raw_prefix('clicks', DS)}a.tsv")
    assert rejected_rows(store, tmp_path)[1] == [(uri, line, reason, text) for line, reason, text in bad]
    assert (result.rows_in, result.rows_kept) == (120, 120 - len(bad))


def test_rows_of_json_lines(tmp_path: Path) -> None:
    good = json.dumps(dict(zip(COLUMNS, GOOD, strict=True)))
    lines = [good] * 40
    bad = {
        3: ("malformed row", "{"),
        9: ("malformed row", f"[{good},7]"),
        12: ("malformed row", "[1, 2]"),
        21: ("malformed row", "7"),
        22: ("price: not a finite number", good.replace("2.5", "x")),
        30: ("time: missing", good.replace('"5"', "null")),
    }
    for line, (_, text) in bad.items():
        lines[line - 1] = text
    lines[14] = " "
    lines[15] = f"[{good},{good}]"  # two rows
    store = local_store(tmp_path / "store", {"a.jsonl": "\n".join(lines).encode()})
    result = hash_partition(config(format="jsonl"), store, DS)
    uri = store.uri(f"{raw_prefix('clicks', DS)}a.jsonl")
    assert rejected_rows(store, tmp_path)[1] == [(uri, line, *what) for line, what in bad.items()]
    assert (result.rows_in, result.rows_kept) == (40, 34)


def test_rows_of_parquet(tmp_path: Path) -> None:
    ages = [40.0] * 50
    ages[17] = ages[33] = float("inf")
    table = pa.table({"clicked": [1] * 50, "at": [5] * 50, "price": ["1"] * 50, "age": ages})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=10)
    store = local_store(tmp_path / "store", {"a.parquet": buffer.getvalue()})
    hash_partition(config(format="parquet"), store, DS)
    found = rejected_rows(store, tmp_path)[1]
    assert [row[1:3] for row in found] == [(18, "age: not a finite number"), (34, "age: not a finite number")]
    assert json.loads(found[0][3])["price"] == "1"


def test_too_many_fail_the_stage_and_the_first_is_named(tmp_path: Path) -> None:
    good, bad = ",".join(GOOD), "1,5,cheap,40"
    header = ",".join(COLUMNS)
    files = {
        "a.csv": "\n".join([header, *[good] * 30]),
        "b.csv": "\n".join([header, *[good] * 59, bad, good, bad, *[good] * 8]),
    }
    store = local_store(tmp_path / "store", {name: text.encode() for name, text in files.items()})
    with pytest.raises(DataInvalid) as caught:
        hash_partition(config(share=0.019), store, DS)
    for word in ("2 of 100 rows", "0.019", "b.csv, line 61", "price: not a finite number", repr(bad)):
        assert word in caught.value.what
    assert not list(store.list(hashed_prefix("clicks", DS)))
    assert [row[1] for row in rejected_rows(store, tmp_path)[1]] == [61, 63]
    assert hash_partition(config(share=0.02), store, DS).rejected == {"price: not a finite number": 2}


def test_rejected_rows_follow_the_partition(tmp_path: Path) -> None:
    header, good, bad = ",".join(COLUMNS), ",".join(GOOD), "1,5,cheap,40"
    store = local_store(tmp_path / "store", {"a.csv": "\n".join([header, good, bad]).encode()})
    hash_partition(config(), store, DS)
    assert len(rejected_rows(store, tmp_path)[1]) == 1
    keys = [info.key for info in store.list("")]
    assert hash_partition(config(), store, DS).already_there
    assert [info.key for info in store.list("")] == keys

    store.put(f"{raw_prefix('clicks', DS)}a.csv", "\n".join([header, bad, bad]).encode())
    with pytest.raises(DataInvalid):  # a refused attempt leaves what belongs to the published partition
        hash_partition(config(), store, DS)
    assert len(rejected_rows(store, tmp_path)[1]) == 1

    store.put(f"{raw_prefix('clicks', DS)}a.csv", "\n".join([header, good, good]).encode())
    hash_partition(config(), store, DS, replace=True)
    manifest, rows = rejected_rows(store, tmp_path)
    assert (manifest.parts, rows) == ([], [])


def test_nothing_is_stored_where_nothing_is_rejected(tmp_path: Path) -> None:
    store: LocalStore = local_store(tmp_path / "store", {"a.csv": f"{','.join(COLUMNS)}\n1,5,2,3".encode()})
    hash_partition(config(), store, DS)
    assert not list(store.list("rejected/"))
