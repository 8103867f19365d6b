"""The data suite: a good partition passes, and each kind of damage fails its own check with its reason."""

import html
import json
import posixpath
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persia_core.errors import DataInvalid, DataRefused, PartitionEmpty, PartitionMissing
from persia_core.handoff.layout import MANIFEST, data_docs_prefix, data_verdict, hashed_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import digest_of, part_of
from persia_core.handoff.s3_store import S3Store
from persia_core.validation.data_suite import validate_partition
from persia_core.validation.sample import sample_frame, sample_partition
from tests.support.hashed import hashed_table, write_hashed_partition, write_hashed_table
from tests.support.small_config import small_config, small_rows

DS = "1970-01-01"
Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def replaced(name: str, change: Callable[[list[Any]], list[Any]]) -> Change:
    """A change of one column, given as Python values."""

    def apply(table: pa.Table) -> pa.Table:
        position = table.column_names.index(name)
        field = table.schema.field(position)
        return table.set_column(position, field, pa.array(change(table[name].to_pylist()), field.type))

    return apply


def first(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value, *values[1:]]


def last(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [*values[:-1], value]


class Loaded(HTMLParser):
    """What a page loads, and what it links to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "link", "img", "iframe", "object", "embed") or "src" in given:
            self.loaded.append(str(self.get_starttag_text()))
        link = given.get("href")
        if tag == "a" and link is not None and not link.startswith("#"):
            self.links.append(link)


def test_a_good_partition_passes_and_its_docs_and_verdict_are_kept(s3_store: S3Store) -> None:
    config = small_config()
    manifest = write_hashed_partition(config, s3_store, DS, small_rows(500), rows_per_part=200)
    verdict = validate_partition(config, s3_store, DS)
    assert verdict.verdict == "pass" and verdict.reasons == []
    assert (verdict.rows, verdict.sampled_rows, verdict.hashed_digest) == (500, 500, manifest.digest)
    stored = json.loads(s3_store.get(data_verdict("clicks", DS)).data)
    assert stored == verdict.model_dump(mode="json")
    assert verdict.data_docs == data_docs_prefix("clicks", DS) + "index.html"
    assert verdict.data_docs_uri == s3_store.uri(verdict.data_docs)
    pages = {info.key.removeprefix(data_docs_prefix("clicks", DS)) for info in s3_store.list("data_docs/")}
    index = s3_store.get(verdict.data_docs).data.decode()
    results = {page for page in pages if page.startswith("great_expectations/validations/")}
    assert len(results) == 2
    for page in results | {page for page in pages if page.startswith("great_expectations/expectations/")}:
        text = s3_store.get(data_docs_prefix("clicks", DS) + page).data.decode()
        found = Loaded(text)
        assert found.loaded == []
        assert "url(" not in text and "@import" not in text
        assert "system-ui" in text, "it has styles of its own"
        linked = {posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) for link in found.links}
        assert "index.html" in linked and linked <= pages
    assert all(f'href="{page}"' in index for page in results)
    assert all(check.reason in html.unescape(index) for check in verdict.checks)
    assert "passed</span>" in index and "refused" not in index
    assert "http" not in index, "the page needs no network"
    validate_partition(config, s3_store, DS)
    again = {info.key.removeprefix(data_docs_prefix("clicks", DS)) for info in s3_store.list("data_docs/")}
    assert again == pages


DAMAGE: list[tuple[str, Change, str]] = [
    (
        "label value",
        replaced("label", first(2.0)),
        "label is wrong in 1 of 60 sampled rows (2.0), expected 0 or 1",
    ),
    (
        "label rate",
        replaced("label", lambda values: [1.0] * len(values)),
        "label rate 1, expected 0.001–0.999",
    ),
    (
        "label present",
        replaced("label", first(None)),
        "label is null or NaN in 1 of 60 sampled rows, expected none to be null or NaN",
    ),
    (
        "time not in the future",
        replaced("time", last(86_400)),
        "time is wrong in 1 of 60 sampled rows (86400), expected times before 1970-01-02 00:00 UTC",
    ),
    (
        "time in order",
        replaced("time", last(-1)),
        "time is wrong in 1 of 60 sampled rows (-1), expected times that never go back",
    ),
    (
        "item prefix",
        replaced("item", first((3 << 56) | 5)),
        "prefix of item is wrong in 1 of 60 sampled rows (3.0), expected 2, that of table item",
    ),
    (
        "tags prefix",
        replaced("tags", first([3 << 56, 9 << 56, 8 << 56])),
        "prefix of tags is wrong in 1 of 60 sampled rows (9.0), expected 3, that of table tag",
    ),
    (
        "hour prefix",
        replaced("hour", first(200 << 48)),
        "prefix of hour is wrong in 1 of 60 sampled rows (0.0), expected 200, that of table hour",
    ),
    (
        "user present",
        replaced("user", first(None)),
        "user is null or NaN in 1 of 60 sampled rows, expected none to be null or NaN",
    ),
    (
        "tags present",
        replaced("tags", first(None)),
        "tags is null or NaN in 1 of 60 sampled rows, expected none to be null or NaN",
    ),
    (
        "price finite",
        replaced("price", first(float("-inf"))),
        "price is wrong in 1 of 60 sampled rows (-inf), expected finite numbers",
    ),
    (
        "age present",
        replaced("age", first(float("nan"))),
        "age is null or NaN in 1 of 60 sampled rows, expected none to be null or NaN",
    ),
    (
        "schema",
        lambda table: table.drop_columns(["user"]),
        "columns differ (missing: user), expected the columns label, time, price, user, item",
    ),
]


@pytest.mark.parametrize(("check", "change", "reason"), DAMAGE, ids=[case[0] for case in DAMAGE])
def test_each_damage_fails_its_check(store: LocalStore, check: str, change: Change, reason: str) -> None:
    config = small_config()
    write_hashed_table(config, store, DS, change(hashed_table(config, small_rows(60))))
    with pytest.raises(DataRefused) as caught:
        validate_partition(config, store, DS)
    assert reason in caught.value.what
    stored = json.loads(store.get(data_verdict("clicks", DS)).data)
    assert stored["verdict"] == "fail"
    failed = {found["name"]: found["reason"] for found in stored["checks"] if found["status"] == "fail"}
    assert failed[check].startswith(reason)
    assert set(failed) <= {check, *ALSO.get(check, ())}
    page = html.unescape(store.get(data_docs_prefix("clicks", DS) + "index.html").data.decode())
    assert "refused</span>" in page
    assert all(found in page for found in failed.values())


# What one damage cannot help but break as well: a null or a NaN has no place in an order or a rate.
ALSO = {
    "label present": ("label rate",),
    "label value": ("label rate",),
    "schema": ("missing share of user",),
}


def test_a_weight_that_is_none_fails(store: LocalStore) -> None:
    config = small_config(dataset=small_config().dataset.model_dump() | {"weight": "w"})
    table = hashed_table(config, small_rows(60) | {"w": [0.0, 2.5, 1e30] * 20})
    write_hashed_table(
        config, store, DS, replaced("weight", last(-1.0))(replaced("weight", first(None))(table))
    )
    with pytest.raises(DataRefused) as caught:
        validate_partition(config, store, DS)
    assert caught.value.what.removeprefix("partition ds=1970-01-01 of clicks: ").split("; ") == [
        "weight is null or NaN in 1 of 60 sampled rows, expected none to be null or NaN",
        "weight is wrong in 1 of 60 sampled rows (-1.0), expected finite numbers of at least 0",
    ]


def test_too_few_rows_and_too_many_missing_values(store: LocalStore) -> None:
    config = small_config(data_checks={"min_rows": 61, "label_rate": [0.9, 0.95], "max_missing_share": 0.2})
    rows = small_rows(60)
    rows["last"] = [None] * 30 + ["i1"] * 30
    rows["user"] = [None] * 12 + ["u1"] * 48
    rows["label"] = ["1"] * 15 + ["0"] * 45
    write_hashed_partition(config, store, DS, rows)
    with pytest.raises(DataRefused) as caught:
        validate_partition(config, store, DS)
    for reason in (
        "60 rows, expected at least 61",
        "label rate 0.25, expected 0.9–0.95",
        "missing share of last 0.5, expected at most 0.2",
    ):
        assert reason in caught.value.what
    assert "missing share of user" not in caught.value.what  # exactly 0.2


def test_a_manifest_that_counts_other_rows_fails(store: LocalStore) -> None:
    config = small_config()
    manifest = write_hashed_partition(config, store, DS, small_rows(60))
    parts = [part.model_copy(update={"rows": 59}) for part in manifest.parts]
    changed = manifest.model_copy(update={"parts": parts, "details": {**manifest.details, "rows_kept": 61}})
    store.put(hashed_prefix("clicks", DS) + MANIFEST, changed.to_bytes())
    with pytest.raises(DataRefused) as caught:
        validate_partition(config, store, DS)
    assert "rows of the parts in the manifest: 59, expected the 60 that the files hold" in caught.value.what
    assert "rows kept by hashing: 61, expected the 60 that the files hold" in caught.value.what


def test_a_manifest_without_statistics_fails(store: LocalStore) -> None:
    config = small_config()
    manifest = write_hashed_partition(config, store, DS, small_rows(60))
    changed = manifest.model_copy(update={"details": {}})
    store.put(hashed_prefix("clicks", DS) + MANIFEST, changed.to_bytes())
    with pytest.raises(DataRefused, match="label rate unknown"):
        validate_partition(config, store, DS)


def test_partitions_of_several_days_may_reach_to_their_end(store: LocalStore) -> None:
    config = small_config(data_checks={"partition_days": 7})
    rows = small_rows(20, first_second=6 * 86_400)
    write_hashed_partition(config, store, DS, rows)
    assert validate_partition(config, store, DS).verdict == "pass"
    with pytest.raises(DataRefused, match="times before 1970-01-02"):
        validate_partition(small_config(), store, DS)


def test_what_cannot_be_checked_has_its_own_error(store: LocalStore, tmp_path: Path) -> None:
    config = small_config()
    with pytest.raises(PartitionMissing):
        validate_partition(config, store, DS)
    manifest = write_hashed_table(config, store, DS, hashed_table(config, small_rows(3)).slice(0, 0))
    with pytest.raises(PartitionEmpty):
        validate_partition(config, store, DS)
    path = tmp_path / "part-00000.parquet"
    path.write_text("label,time\n")
    store.upload(path, hashed_prefix("clicks", DS) + path.name)
    parts = [part_of(tmp_path, path, 1)]
    changed = manifest.model_copy(update={"parts": parts, "digest": digest_of(parts)})
    store.put(hashed_prefix("clicks", DS) + MANIFEST, changed.to_bytes())
    with pytest.raises(DataInvalid, match="is not Parquet"):
        validate_partition(config, store, DS)


def test_a_sample_is_bounded_spread_and_holds_the_last_row(tmp_path: Path) -> None:
    config = small_config()
    table = hashed_table(config, small_rows(1000))
    store = LocalStore(tmp_path / "store")
    manifest = write_hashed_table(config, store, DS, table, rows_per_part=300, rows_per_group=10)
    sample = sample_partition(config, store, manifest, limit=100)
    assert sample.rows is not None and sample.rows_in_files == 1000
    assert 90 <= sample.rows.num_rows <= 100
    times: list[Any] = sample.rows["time"].to_pylist()
    assert times == sorted(times) and times[-1] == table["time"][-1].as_py()
    quarters = pd.cut(pd.Series(times), 4, labels=False).value_counts()
    assert (quarters > 15).all()


class _Metered(LocalStore):
    """Counts what is read by ranges, and copies nothing."""

    bytes_read = 0

    def read(self, key: str, start: int, stop: int) -> bytes:
        data = super().read(key, start, stop)
        self.bytes_read += len(data)
        return data

    def download(self, key: str, path: Path) -> None:
        raise AssertionError(f"{key} was copied")


def test_what_is_read_and_kept_of_a_partition_is_bounded(tmp_path: Path) -> None:
    config = small_config()
    table = pa.concat_tables([hashed_table(config, small_rows(400))] * 200).sort_by("time")
    noise = np.random.default_rng(1).uniform(0, 99, table.num_rows)  # bytes that no codec makes fewer
    table = replaced("price", lambda _: noise.tolist())(table)
    store = _Metered(tmp_path / "store")
    manifest = write_hashed_table(config, store, DS, table, rows_per_group=200)
    size = sum(part.size for part in manifest.parts)
    sample = sample_partition(config, store, manifest, limit=640)
    assert sample.rows is not None and (sample.rows.num_rows, sample.rows_in_files) == (640, 80_000)
    assert store.bytes_read < size / 2
    assert sample.rows.get_total_buffer_size() < 2 * sample.rows.nbytes
    validate_partition(config, store, DS)
    assert not list((tmp_path / "home" / "work").rglob("*.parquet"))


def test_the_frame_has_the_first_wrong_prefix_of_every_row() -> None:
    config = small_config()
    table = hashed_table(config, small_rows(300))
    rng = np.random.default_rng(0)
    bags = [
        [int(prefix) << 56 | 1 for prefix in rng.choice([3, 3, 3, 4, 5], rng.integers(0, 5))]
        for _ in range(300)
    ]
    frame = sample_frame(config, replaced("tags", lambda _: list(bags))(table))
    for bag, prefix, count in zip(bags, frame["tags.prefix"], frame["tags"], strict=True):
        found = [id_ >> 56 for id_ in bag]
        wrong = [value for value in found if value != 3]
        assert count == len(bag)
        assert (np.isnan(prefix) and not bag) or prefix == (wrong or found)[0]
    lasts = table["last"].to_pylist()
    assert frame["last.prefix"].isna().tolist() == [value is None for value in lasts]


def test_the_sample_reads_what_parquet_holds(tmp_path: Path) -> None:
    config = small_config()
    store = LocalStore(tmp_path / "store")
    manifest = write_hashed_partition(config, store, DS, small_rows(50), rows_per_part=20)
    directory = tmp_path / "store" / hashed_prefix("clicks", DS)
    sample = sample_partition(config, store, manifest)
    expected = pa.concat_tables([pq.read_table(directory / part.path) for part in manifest.parts])
    assert sample.rows is not None and sample.rows.to_pylist() == expected.to_pylist()
