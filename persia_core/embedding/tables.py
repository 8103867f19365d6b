"""Embedding tables as the native worker wants them: plain dictionaries made from the configuration."""

from typing import Any, TypedDict

from persia_core.config.features import EmbeddingTable
from persia_core.config.model import ModelConfig


class TableSpec(TypedDict):
    """One table. Keys must be there unless they say otherwise, and no others.

    Values are checked by the worker (ValueError).
    """

    name: str
    prefix: int  # the top prefix_bits of every id of the table
    prefix_bits: int  # the same for all tables
    dim: int
    pooling: str  # "sum", "mean" or "sqrtn"; of features that have none of their own
    optimizer: dict[str, Any]  # kind, and that section's other keys, as in persia_core.config.features
    initializer: dict[str, Any]  # the same
    admission: dict[str, Any]  # the same; may be left out, and is "always" then
    expected_rows: int  # over all servers
    capacity_bytes: int | None  # on each server; may be left out, and is None (unbounded) then
    weight_type: str  # "float32", "bfloat16" or "float16"; may be left out, and is "float32" then
    max_age_days: int | None  # without a training lookup; may be left out, and is None (any age) then


class FeatureSpec(TypedDict):
    """One id feature: all of these keys and no others. Values are checked by the worker (ValueError)."""

    table: int  # its place among the tables
    pooling: str  # "sum", "mean", "sqrtn" or "sequence"
    length: int  # places of a sequence, 1 to 4096; 0 with any other pooling


def table_spec(table: EmbeddingTable, prefix_bits: int) -> TableSpec:
    """The dictionary of one table of a configuration."""
    return TableSpec(
        name=table.name,
        prefix=table.prefix,
        prefix_bits=prefix_bits,
        dim=table.dim,
        pooling=table.pooling,
        optimizer=table.optimizer.model_dump(),
        initializer=table.initializer.model_dump(),
        admission=table.admission.model_dump(),
        expected_rows=table.expected_rows,
        capacity_bytes=table.capacity_bytes,
        weight_type=table.weight_type,
        max_age_days=table.eviction.max_age_days if table.eviction is not None else None,
    )


def table_specs(config: ModelConfig) -> list[dict[str, object]]:
    """All tables of `config`, in its order: the `tables` argument of EmbeddingWorker."""
    return [dict(table_spec(table, config.dataset.prefix_bits)) for table in config.tables]


def table_indices(config: ModelConfig) -> list[int]:
    """The table of each id feature of `config`, by its place among the tables."""
    index = {table.name: i for i, table in enumerate(config.tables)}
    return [index[feature.table] for feature in config.id_features]


def feature_specs(config: ModelConfig) -> list[dict[str, object]]:
    """All id features of `config`, in its order: the `features` argument of EmbeddingWorker."""
    return [
        dict(
            FeatureSpec(
                table=table,
                pooling=config.pooling_of(feature),
                length=config.sequence_length_of(feature) or 0,
            )
        )
        for feature, table in zip(config.id_features, table_indices(config), strict=True)
    ]
