"""Columns of a hashed partition, in order. See docs/formats/hashed.md."""

import pyarrow as pa

from persia_core.config import ModelConfig
from persia_core.config.features import DenseFeature, Feature, MultiCategoricalFeature

LABEL = "label"
TIME = "time"
WEIGHT = "weight"


def hashed_columns(config: ModelConfig) -> dict[str, pa.DataType]:
    """Name -> Arrow type: label float32, time int64 (Unix seconds), then the features of `config`.

    Between them the weight, float32, if the dataset has one.
    """
    columns: dict[str, pa.DataType] = {LABEL: pa.float32(), TIME: pa.int64()}
    if config.dataset.weight is not None:
        columns[WEIGHT] = pa.float32()
    columns |= {feature.name: _type_of(feature) for feature in config.features}
    return columns


def schema_difference(config: ModelConfig, found: pa.Schema) -> str | None:
    """What about `found` is not as `config` says, in words; None if it is the same.

    The name of a list's element and nullability are left to the writer.
    """
    expected = hashed_columns(config)
    if found.names != list(expected):
        missing = [name for name in expected if name not in found.names]
        extra = [name for name in found.names if name not in expected]
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"not expected: {', '.join(extra)}"] if extra else []
        return "columns differ (" + ("; ".join(parts) or "other order") + ")"
    for name, kind in expected.items():
        given = found.field(name).type
        same = given == kind
        if pa.types.is_list(kind) and pa.types.is_list(given):
            same = given.value_type == kind.value_type
        if not same:
            return f"column {name} is {given}, expected {kind}"
    return None


def _type_of(feature: Feature) -> pa.DataType:
    if isinstance(feature, DenseFeature):
        return pa.float32()
    if isinstance(feature, MultiCategoricalFeature):
        return pa.list_(pa.int64())
    return pa.int64()
