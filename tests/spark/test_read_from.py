"""Raw files where they lie: executors read them, the driver copies none, and the partition is the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persia_core.config import ModelConfig, parse_config
from persia_core.data.hashing import HashResult, hash_partition
from persia_core.data.staging import named_files, raw_files
from persia_core.errors import DataInvalid, EnvironmentProblem, PartitionMissing
from persia_core.handoff.layout import raw_prefix
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.s3_store import S3Store
from tests.spark.oracle import DOCUMENT
from tests.spark.support import (
    DS,
    as_rows,
    csv_bytes,
    local_store,
    published,
    random_rows,
    rejected_rows,
)

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

BAD = b"too,few\n"
# Names that Hadoop and URIs each have their own mind about.
NAMES = ("a [1] {x,y} ü+%20?.csv", "deeper/b*.csv")


def config(read_from: str, share: float = 1.0) -> ModelConfig:
    checks = {"max_rejected_share": share}
    return parse_config(DOCUMENT | {"spark": {"read_from": read_from}, "data_checks": checks}, "the test")


def files_of(seed: int) -> dict[str, bytes]:
    rows = random_rows(60, seed)
    return {NAMES[0]: csv_bytes(rows[:20]) + BAD, NAMES[1]: csv_bytes(rows[20:]) + BAD * 2}


def mirrored(spark: Any, store: S3Store, directory: Path) -> None:
    """Let Spark's `s3a://` of the store's bucket lead to copies of its objects in `directory`.

    By Hadoop's own mounts: there is no hadoop-aws here.
    """
    for info in store.list(""):
        store.download(info.key, directory / info.key)
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.s3a.impl", "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme")
    hadoop.set(f"fs.viewfs.mounttable.{bucket}.link./{prefix}", f"file://{directory}")


@pytest.fixture
def _s3a_as_it_was(spark: Any) -> Iterator[None]:
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    before = hadoop.get("fs.s3a.impl")
    yield
    hadoop.set("fs.s3a.impl", before)


def hashed(
    store: ObjectStore, read_from: str, scratch: Path
) -> tuple[HashResult, list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    result = hash_partition(config(read_from), store, DS, replace=True)
    return result, as_rows(published(store, scratch)[1]), rejected_rows(store, scratch)[1]


@pytest.mark.usefixtures("_s3a_as_it_was")
@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_what_executors_read_themselves_is_the_same_partition(
    spark: Any, tmp_path: Path, s3_store: S3Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: ObjectStore = local_store(tmp_path / "store", files_of(1))
    if kind == "s3":
        for info in store.list(""):
            s3_store.put(info.key, store.get(info.key).data)
        store = s3_store
        mirrored(spark, s3_store, tmp_path / "mirror")
    staged, rows, rejected = hashed(store, "staged", tmp_path)
    uris = [store.uri(raw_prefix("clicks", DS) + name) for name in NAMES]
    assert rejected == [
        (uris[0], 22, "malformed row", "too,few"),
        *((uris[1], line, "malformed row", "too,few") for line in (42, 43)),
    ]

    def copied(key: str, path: Path) -> None:
        raise AssertionError(f"{key} was copied")

    with monkeypatch.context() as patch:
        patch.setattr(store, "download", copied)
        direct = hash_partition(config("direct"), store, DS)
    assert direct.already_there and direct.digest == staged.digest
    again, same_rows, same_rejected = hashed(store, "direct", tmp_path)
    assert (again.digest, same_rows, same_rejected) == (staged.digest, rows, rejected)
    with pytest.raises(DataInvalid) as caught:
        hash_partition(config("direct", share=0.01), store, DS, replace=True)
    assert f"the first one is {uris[0]}, line 22" in caught.value.what


def test_spark_is_given_the_objects_of_a_store_on_s3(
    s3_store: S3Store, s3_endpoint: str, tmp_path: Path
) -> None:
    for name, data in files_of(2).items():
        s3_store.put(raw_prefix("clicks", DS) + name, data)
    s3_store.put(raw_prefix("clicks", DS) + "_SUCCESS", b"1")
    found = raw_files(s3_store, config("direct"), DS, tmp_path / "nothing")
    root = f"{s3_store.url.replace('s3://', 's3a://')}/{raw_prefix('clicks', DS)}"
    assert [file.location for file in found] == [root + name for name in NAMES]
    with found[0].open() as stream:
        assert stream.read() == files_of(2)[NAMES[0]]
    assert not list(tmp_path.iterdir())

    endpoint = {"storage": {"url": "file:///unused", "endpoint_url": s3_endpoint}}
    elsewhere = parse_config(DOCUMENT | endpoint, "the test")
    assert [file.location for file in named_files(elsewhere, root)] == [root + name for name in NAMES]
    (one,) = named_files(elsewhere, root + NAMES[0])
    assert (one.location, one.size) == (found[0].location, found[0].size)
    with pytest.raises(PartitionMissing, match="no such file"):
        named_files(elsewhere, root + "a")


def test_without_hadoop_aws_the_error_names_what_to_add(
    s3_store: S3Store, tmp_path: Path, spark: Any
) -> None:
    for name, data in files_of(3).items():
        s3_store.put(raw_prefix("clicks", DS) + name, data)
    with pytest.raises(EnvironmentProblem) as caught:
        hash_partition(config("direct"), s3_store, DS)
    version = spark.sparkContext._jvm.org.apache.hadoop.util.VersionInfo.getVersion()
    assert f"spark.jars.packages: 'org.apache.hadoop:hadoop-aws:{version}'" in caught.value.remedy
    assert "spark.read_from: staged" in caught.value.remedy
    assert not list(s3_store.list("hashed/"))
