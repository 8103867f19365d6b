"""What depends on how often values occur: rare ones folded into one id, and a sample of the vocabulary."""

from functools import reduce
from typing import Any

from persia_core.config import ModelConfig
from persia_core.config.derived_features import CrossFeature
from persia_core.config.features import CategoricalFeature
from persia_core.ids import MISSING, RARE, feature_salt
from spark_jobs.readers import quoted
from spark_jobs.transform import REASON, text_column, transform
from spark_jobs.values import id_of

_MAX_SHOWN = 200  # characters of a value in a sample

Counted = CategoricalFeature | CrossFeature


def counted_features(config: ModelConfig) -> list[Counted]:
    """The features whose values can be counted: those of one id made of a value."""
    return [f for f in config.features if isinstance(f, CategoricalFeature | CrossFeature)]


def fold_rare(rows: Any, config: ModelConfig) -> Any:
    """The rows of `transform`, with the rare id for every value of less than `min_count` kept rows.

    The missing value stays what it is. Each such feature is a pass over the raw files and a join.
    """
    from pyspark.sql import functions as F

    for feature in counted_features(config):
        if feature.min_count == 1:
            continue
        name = quoted(feature.name)
        frequent = rows.groupBy(F.col(name).alias("_frequent")).agg(
            F.count_if(F.col(REASON).isNull()).alias("_rows")
        )
        frequent = frequent.where(F.col("_rows") >= feature.min_count).select("_frequent")
        joined = rows.join(frequent, F.col(name) == F.col("_frequent"), "left")
        stays = (
            F.col("_frequent").isNotNull()
            | F.col(name).isNull()
            | (F.col(name) == _id(config, feature, MISSING))
        )
        folded = F.when(stays, F.col(name)).otherwise(_id(config, feature, RARE))
        rows = joined.withColumn(feature.name, folded).drop("_frequent")
    return rows


def vocabulary_samples(raw: list[Any], config: ModelConfig) -> dict[str, list[dict[str, Any]]]:
    """Feature -> up to `vocabulary_sample` of its values: {"value", "id" (hexadecimal), "rows" kept}.

    Those with the smallest ids: a sample that is the same for equal rows, and has nothing to do with how
    often a value occurs. Each such feature is a pass over the raw files.
    """
    from pyspark.sql import functions as F

    found = {}
    for feature in counted_features(config):
        if feature.vocabulary_sample == 0:
            continue
        text = quoted(text_column(feature))
        frames = [
            transform(frame, config, keep=[text]).select(
                F.col(text).alias("value"), F.col(quoted(feature.name)).alias("id"), REASON
            )
            for frame in raw
        ]
        rows = reduce(lambda one, other: one.unionByName(other), frames)
        counts = rows.groupBy("value", "id").agg(F.count_if(F.col(REASON).isNull()).alias("rows"))
        counts = counts.where((F.col("rows") > 0) & F.col("value").isNotNull())
        sample = counts.orderBy("id", "value").limit(feature.vocabulary_sample)
        shown = F.substring(F.make_valid_utf8("value"), 1, _MAX_SHOWN)
        found[feature.name] = [
            {"value": row["value"], "id": f"{row['id'] % 2**64:016x}", "rows": row["rows"]}
            for row in sample.select(shown.alias("value"), "id", "rows").collect()
        ]
    return found


def _id(config: ModelConfig, feature: Counted, text: str) -> Any:
    from pyspark.sql import functions as F

    table = config.table(feature.table)
    dataset = config.dataset
    return id_of(F.lit(text), feature_salt(dataset.salt, table.name), table.prefix, dataset.prefix_bits)
