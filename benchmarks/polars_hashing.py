"""The rows of the Spark job by Polars, in one process: for what a single machine could do without Spark."""

from pathlib import Path
from typing import Any

import numpy as np

from persia_core.config import ModelConfig
from persia_core.config.derived_features import BucketisedFeature
from persia_core.config.features import CategoricalFeature, DenseFeature
from persia_core.ids import MISSING, feature_salt


def hash_file(config: ModelConfig, source: Path, target: Path) -> None:
    """Write the hashed rows of a tab-separated file without header to the new file `target`.

    Takes features of kind dense, categorical and bucketised whose missing values have an id. Rows whose
    label is neither 0 nor 1 are left out, and not counted: there are none in what is measured.
    """
    import polars as pl

    columns = config.dataset.columns or ()
    raw = pl.scan_csv(
        source,
        separator="\t",
        has_header=False,
        quote_char=None,
        schema=dict.fromkeys(columns, pl.String),
    )
    label = pl.col(config.dataset.label).cast(pl.Float32, strict=False)
    expressions = [label.alias("label"), pl.lit(0, dtype=pl.Int64).alias("time")]
    expressions += [_column(config, feature).alias(feature.name) for feature in config.features]
    rows = raw.filter(label.is_in([0.0, 1.0])).select(*expressions)
    names = rows.collect_schema().names()
    rows = rows.sort(pl.struct(names).hash(seed=42))
    rows.sink_parquet(target, compression="snappy")


def _column(config: ModelConfig, feature: Any) -> Any:
    import polars as pl
    import polars_hash  # noqa: F401 - registers the namespace nchash

    raw = pl.col(feature.column or feature.name)
    if isinstance(feature, DenseFeature):
        number = raw.cast(pl.Float64, strict=False)
        if feature.transform == "log1p":
            number = number.log1p()
        number = (number - feature.mean) / feature.std
        if feature.clip is not None:
            number = number.clip(*feature.clip)
        missing = 0.0 if feature.missing == "reject" else feature.missing
        return number.cast(pl.Float32).fill_null(missing)
    text = raw
    if isinstance(feature, BucketisedFeature):
        number = raw.cast(pl.Float64, strict=False)
        bounds = [number >= boundary for boundary in feature.boundaries]
        text = pl.sum_horizontal(*bounds, ignore_nulls=False).cast(pl.String)
    elif not isinstance(feature, CategoricalFeature):
        raise TypeError(f"no {feature.kind} here")
    table = config.table(feature.table)
    bits = config.dataset.prefix_bits
    salted = pl.lit(feature_salt(config.dataset.salt, table.name)) + text.fill_null(MISSING)
    hashed = salted.nchash.xxhash64(seed=42) // (1 << bits)
    prefix = pl.lit(int(np.uint64(table.prefix << (64 - bits))), dtype=pl.UInt64)
    return (hashed + prefix).reinterpret(signed=True)
