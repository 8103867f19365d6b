"""Golden vectors through Spark: from typed Parquet columns, by the expressions of the job."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persia_core.ids import MISSING
from spark_jobs.values import canonical, cross, id_of, time_part

pytestmark = pytest.mark.spark

GOLDEN: list[dict[str, Any]] = json.loads(
    Path(__file__).parents[1].joinpath("golden", "ids.json").read_text(encoding="utf-8")
)
TYPES = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float64": pa.float64(),
    "float32": pa.float32(),
}


@pytest.mark.parametrize("kind", TYPES)
def test_ids_are_the_golden_ones(spark: Any, tmp_path: Path, kind: str) -> None:
    from pyspark.sql import functions as F

    vectors = [vector for vector in GOLDEN if vector["type"] == kind]
    values = [vector["value"] for vector in vectors]
    if kind.startswith("float"):
        values = [None if value is None else float.fromhex(value) for value in values]
    path = tmp_path / "values.parquet"
    pq.write_table(pa.table({"n": range(len(values)), "value": pa.array(values, TYPES[kind])}), path)
    frame = spark.read.parquet(str(path))
    text = canonical(F.col("value"), frame.schema["value"].dataType, "value")
    schemes = sorted({(v["salt"], v["prefix"], v["prefix_bits"]) for v in vectors})
    ids = [id_of(F.coalesce(text, F.lit(MISSING)), *scheme) for scheme in schemes]
    rows = frame.select("n", text.alias("text"), *ids).orderBy("n").collect()
    assert len(rows) == len(vectors) > 0
    for row, vector in zip(rows, vectors, strict=True):
        assert row["text"] == vector["canonical"]
        scheme = schemes.index((vector["salt"], vector["prefix"], vector["prefix_bits"]))
        assert f"{row[2 + scheme] % 2**64:016x}" == vector["id"]


def test_pairs_are_joined_as_the_golden_ones(spark: Any) -> None:
    from pyspark.sql import functions as F

    vectors = [vector for vector in GOLDEN if vector["type"] == "cross"]
    for vector in vectors:
        first, second = (F.lit(text).cast("string") for text in vector["value"])
        joined = cross(first, second)
        scheme = (vector["salt"], vector["prefix"], vector["prefix_bits"])
        (row,) = spark.range(1).select(joined.alias("text"), id_of(joined, *scheme).alias("id")).collect()
        assert row["text"] == vector["canonical"]
        assert f"{row['id'] % 2**64:016x}" == vector["id"]
    assert len(vectors) > 10


def test_parts_of_a_time_are_those_of_python(spark: Any) -> None:
    from datetime import UTC, datetime

    from pyspark.sql import functions as F

    step = 1_234_567  # no divisor of a day or a week: all hours and weekdays come
    rows = (
        spark.range(-1_000_000_000, 4_000_000_000, step)
        .select(
            "id", time_part(F.col("id"), "hour").alias("hour"), time_part(F.col("id"), "weekday").alias("day")
        )
        .collect()
    )
    assert {row["hour"] for row in rows} == set(range(24))
    for row in rows:
        moment = datetime.fromtimestamp(row["id"], UTC)
        assert (row["hour"], row["day"]) == (moment.hour, moment.weekday())
