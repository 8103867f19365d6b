"""What errors of Spark on a cluster mean: said for people, with what to do."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from persia_core.config import ModelConfig
from persia_core.config.spark import SparkSection
from persia_core.data.spark_errors import check_shared, explained
from persia_core.errors import DataInvalid, EnvironmentProblem
from spark_jobs.raw_files import local_file
from tests.support.small_config import small_config


def on(master: str) -> ModelConfig:
    return small_config(spark={"master": master})


def test_files_that_executors_wrote_elsewhere_are_missed(tmp_path: Path) -> None:
    paths = [tmp_path / f"part-{rows}.parquet" for rows in (2, 3)]
    for rows, path in zip((2, 3), paths, strict=True):
        pq.write_table(pa.table({"a": range(rows)}), path)
    for master in ("yarn", "k8s://https://host", "local-cluster[2,1,1024]"):
        assert check_shared(master, 5, tmp_path) == paths
        with pytest.raises(EnvironmentProblem) as caught:
            check_shared(master, 6, tmp_path)
        assert "6 rows, and 5 of them are here" in caught.value.what
        assert str(tmp_path) in caught.value.what
    for master in ("local", "local[2]"):
        assert check_shared(master, 6, tmp_path) == paths  # what writes the parts compares these


def test_what_an_executor_does_not_find_is_told_apart_from_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "day one.csv.gz"
    path.write_bytes(b"x")
    files = [local_file(path, "s3://bucket/raw/day one.csv.gz")]
    lost = RuntimeError("java.io.FileNotFoundException: File file:/home/day%20one.csv.gz does not exist")
    found = explained(lost, "yarn", files)
    assert isinstance(found, EnvironmentProblem) and "PERSIA_HOME" in found.remedy
    cut = RuntimeError("Unexpected end of input stream in file:/home/day%20one.csv.gz")
    found = explained(cut, "yarn", files)
    assert isinstance(found, DataInvalid) and found.what.startswith(files[0].name)
    jars = RuntimeError("ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found")
    found = explained(jars, "yarn", files)
    assert isinstance(found, EnvironmentProblem) and "hadoop-aws" in found.remedy
    assert explained(RuntimeError("something else"), "yarn", files) is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"master": "mesos://host"}, "is none of local"),
        ({"settings": {"spark.hadoop.fs.s3a.access.key": "x"}}, "AWS_"),
        ({"settings": {"spark.authenticate.secret": "x"}}, "is a secret"),
        ({"settings": {"fs.s3a.endpoint": "x"}}, "no setting of Spark"),
        ({"settings": {"spark.master": "yarn"}}, "no setting of Spark"),
    ],
)
def test_sections_that_cannot_be_meant_are_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SparkSection.model_validate(section)


def test_where_a_day_is_hashed_is_in_no_digest() -> None:
    assert on("yarn").digest() == small_config().digest()
    assert on("yarn").schema_fingerprint() == small_config().schema_fingerprint()
