"""Landing raw files in a real S3 endpoint."""

from pathlib import Path

import pytest

from persia_core.data.raw import land_partition
from persia_core.data.synthetic import synthesize
from persia_core.errors import DataInvalid
from persia_core.handoff.layout import raw_prefix
from persia_core.handoff.s3_store import S3Store


def test_landed_files_read_back_as_they_were(s3_store: S3Store, tmp_path: Path) -> None:
    days = synthesize(tmp_path / "raw", 100, 2, seed=1)
    for day in days:
        (key,) = land_partition(s3_store, "clicks", day.ds, [day.path])
        assert key == raw_prefix("clicks", day.ds) + "clicks.csv.gz"
        s3_store.download(key, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == day.path.read_bytes()
    assert len(list(s3_store.list("raw/"))) == 2


def test_landing_again_replaces_the_file_and_keeps_the_others(s3_store: S3Store, tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("label\n1\n")
    two.write_text("label\n0\n")
    keys = land_partition(s3_store, "clicks", "2026-01-01", [one, two])
    one.write_text("label\n0\n0\n")
    land_partition(s3_store, "clicks", "2026-01-01", [one])
    assert [info.key for info in s3_store.list(raw_prefix("clicks", "2026-01-01"))] == keys
    assert [s3_store.get(key).data for key in keys] == [b"label\n0\n0\n", b"label\n0\n"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.csv", "is not a file"),
        ("empty.csv", "is empty"),
        ("notes.txt", "no raw file is called"),
        ("_SUCCESS.csv", "no raw file is called"),
        ("folder.csv", "is not a file"),
        ("sub/good.csv", "two files are called"),
    ],
)
def test_a_bad_file_stops_all_of_them(s3_store: S3Store, tmp_path: Path, name: str, message: str) -> None:
    for good in ("good.csv", "notes.txt", "_SUCCESS.csv", "sub/good.csv"):
        (tmp_path / good).parent.mkdir(exist_ok=True)
        (tmp_path / good).write_text("label\n1\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataInvalid, match=message):
        land_partition(s3_store, "clicks", "2026-01-01", [tmp_path / "good.csv", tmp_path / name])
    assert list(s3_store.list("raw/")) == []


def test_no_files_is_an_error(s3_store: S3Store) -> None:
    with pytest.raises(DataInvalid, match="no files given"):
        land_partition(s3_store, "clicks", "2026-01-01", [])
