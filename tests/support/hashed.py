"""Hashed partitions without Spark: a second, independent implementation of docs/formats/ids.md.

Written from the contract with the plain `xxhash` package and NumPy, so that tests of the trainer need
no JVM and tests of the Spark job have an oracle.
"""

import hashlib
import math
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from persia_core.config import ModelConfig
from persia_core.config.features import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    MultiCategoricalFeature,
    TimestampFeature,
)
from persia_core.handoff.layout import MANIFEST, hashed_prefix
from persia_core.handoff.manifest import Lineage, Manifest, digest_of, part_of
from persia_core.handoff.object_store import ObjectStore

MISSING = "\0"
Rows = dict[str, Sequence[Any]]


def make_id(config: ModelConfig, table: str, value: str) -> int:
    """The unsigned 64-bit id of one canonical value."""
    bits = config.dataset.prefix_bits
    salted = f"{config.dataset.salt}/{table}/{value}".encode()
    return (config.table(table).prefix << (64 - bits)) | (xxhash.xxh64_intdigest(salted, seed=42) >> bits)


def signed(id_: int) -> int:
    """The bit pattern of an unsigned 64-bit id as the int64 that Parquet holds."""
    return id_ - (1 << 64) if id_ >= 1 << 63 else id_


def is_missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def hashed_table(config: ModelConfig, rows: Rows) -> pa.Table:
    """Raw rows (column name -> values; all columns of equal length) as one hashed table.

    Columns and order as in a hashed partition: label, time, the weight if there is one, then every feature in
    order of the configuration; rows by time, then by a hash of their content.
    """
    labels = [float(value) for value in rows[config.dataset.label]]
    n = len(labels)
    time_column = config.dataset.time_column
    times = [int(float(value)) for value in rows[time_column]] if time_column else [0] * n
    columns = [(feature, _column(config, feature, rows, times)) for feature in config.features]

    def content(i: int) -> bytes:
        return hashlib.sha256(repr([labels[i], *(values[i] for _, values in columns)]).encode()).digest()

    order = sorted(range(n), key=lambda i: (times[i], content(i)))
    arrays: list[Any] = [
        pa.array([labels[i] for i in order], pa.float32()),
        pa.array([times[i] for i in order], pa.int64()),
    ]
    names = ["label", "time"]
    if config.dataset.weight is not None:
        weights = [float(rows[config.dataset.weight][i]) for i in order]
        arrays.append(pa.array(weights, pa.float32()))
        names.append("weight")
    for feature, values in columns:
        kind: pa.DataType = pa.int64()
        if isinstance(feature, DenseFeature):
            kind = pa.float32()
        elif isinstance(feature, MultiCategoricalFeature):
            kind = pa.list_(pa.int64())
        arrays.append(pa.array([values[i] for i in order], kind))
    return pa.table(arrays, names=[*names, *(feature.name for feature in config.features)])


def write_hashed_partition(
    config: ModelConfig,
    store: ObjectStore,
    ds: str,
    rows: Rows,
    *,
    rows_per_part: int = 1 << 30,
    rows_per_group: int = 4096,
) -> Manifest:
    """Hash raw rows and store them as the complete partition `ds`; returns its manifest."""
    table = hashed_table(config, rows)
    missing = {feature.name: _missing(feature, rows) for feature in config.features}
    return write_hashed_table(
        config, store, ds, table, missing, rows_per_part=rows_per_part, rows_per_group=rows_per_group
    )


def write_hashed_table(
    config: ModelConfig,
    store: ObjectStore,
    ds: str,
    table: pa.Table,
    missing: dict[str, int] | None = None,
    *,
    rows_per_part: int = 1 << 30,
    rows_per_group: int = 4096,
    schema_fingerprint: str | None = None,
) -> Manifest:
    """Store a table that is hashed already (or damaged on purpose) as the partition `ds`."""
    prefix = hashed_prefix(config.dataset.name, ds)
    parts = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for number, start in enumerate(range(0, max(table.num_rows, 1), rows_per_part)):
            piece = table.slice(start, rows_per_part)
            path = root / f"part-{number:05d}.parquet"
            pq.write_table(piece, path, row_group_size=rows_per_group, compression="zstd")
            parts.append(part_of(root, path, piece.num_rows))
            store.upload(path, prefix + path.name)
    n = table.num_rows
    manifest = Manifest(
        kind="hashed",
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint=schema_fingerprint or config.schema_fingerprint(),
        lineage=Lineage(
            dataset=config.dataset.name, ds=ds, config_digest=config.digest(), code_version="test"
        ),
        details={
            "rows_in": n,
            "rows_kept": n,
            "rejected": {},
            "label_rate": _mean(table["label"]),
            "features": {
                feature.name: _statistics(feature, table, (missing or {}).get(feature.name, 0))
                for feature in config.features
                if feature.name in table.column_names
            },
        },
    )
    store.put_if_absent(prefix + MANIFEST, manifest.to_bytes())
    return manifest


def _column(config: ModelConfig, feature: Feature, rows: Rows, times: Sequence[int]) -> list[Any]:
    if isinstance(feature, TimestampFeature):
        return [signed(make_id(config, feature.table, _time_part(feature, time))) for time in times]
    raw = rows[feature.column or feature.name]
    if isinstance(feature, DenseFeature):
        return [_dense(feature, value) for value in raw]
    if isinstance(feature, MultiCategoricalFeature):
        return [_bag(config, feature, value) for value in raw]
    return [_single(config, feature, value) for value in raw]


def _time_part(feature: TimestampFeature, time: int) -> str:
    moment = datetime.fromtimestamp(time, UTC)
    return str(moment.hour if feature.part == "hour" else moment.weekday())


def _dense(feature: DenseFeature, raw: object) -> float:
    if is_missing(raw):
        return float(np.float32(feature.missing))
    value = float(raw)  # type: ignore[arg-type]
    if feature.transform == "log1p":
        value = math.log1p(value)
    value = (value - feature.mean) / feature.std
    if feature.clip is not None:
        value = min(max(value, feature.clip[0]), feature.clip[1])
    return float(np.float32(value)) + 0.0  # -0.0 becomes 0.0


def _single(config: ModelConfig, feature: CategoricalFeature, raw: object) -> int | None:
    if is_missing(raw):
        return None if feature.missing == "zero" else signed(make_id(config, feature.table, MISSING))
    return signed(make_id(config, feature.table, _text(raw)))


def _bag(config: ModelConfig, feature: MultiCategoricalFeature, raw: object) -> list[int]:
    return [signed(make_id(config, feature.table, text)) for text in _texts(feature, raw)]


def _texts(feature: MultiCategoricalFeature, raw: Any) -> list[str]:
    if is_missing(raw):
        return []
    values = raw.split(feature.delimiter) if isinstance(raw, str) else list(raw)
    texts = [_text(value) for value in values if not is_missing(value)]
    return texts[: feature.max_length] if feature.keep == "first" else texts[-feature.max_length :]


def _text(value: object) -> str:
    """Only what has one obvious spelling; floats and booleans are the business of persia_core.ids."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"give categorical values as str or int, not {value!r}")
    return str(value)


def _missing(feature: Feature, rows: Rows) -> int:
    if isinstance(feature, TimestampFeature):
        return 0
    raw = rows[feature.column or feature.name]
    if isinstance(feature, MultiCategoricalFeature):
        return sum(not _texts(feature, value) for value in raw)
    return sum(is_missing(value) for value in raw)


def _mean(column: Any) -> float | None:
    values = column.to_numpy().astype(np.float64)
    return float(values.mean()) if values.size else None


def _statistics(feature: Feature, table: pa.Table, missing: int) -> dict[str, Any]:
    column: Any = table[feature.name]
    flat = column.combine_chunks().flatten() if pa.types.is_list(column.type) else column
    found: dict[str, Any] = {"missing": missing, "distinct": len(flat.drop_null().unique())}
    if isinstance(feature, DenseFeature) and table.num_rows:
        values = column.to_numpy().astype(np.float64)
        finite = values[np.isfinite(values)]
        found |= {"min": float(finite.min()), "max": float(finite.max()), "mean": float(finite.mean())}
    return found
