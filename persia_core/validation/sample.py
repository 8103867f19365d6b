"""What the data checks look at: a bounded sample of a partition's rows, and figures of all of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from persia_core.config import ModelConfig
from persia_core.config.features import IdFeature, MultiCategoricalFeature
from persia_core.data.schema import schema_difference
from persia_core.data.stored_partition import StoredPartition
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import ObjectStore

if TYPE_CHECKING:
    import pandas as pd

MAX_SAMPLE_ROWS = 200_000
_MAX_GROUPS = 32


@dataclass(frozen=True)
class PartitionSample:
    """`rows` are in partition order, the last row of the partition among them."""

    rows: pa.Table | None  # None when the columns are not as declared
    rows_in_files: int
    schema_difference: str | None


def prefix_column(feature_name: str) -> str:
    """Name of the column that holds the prefix of a feature's ids."""
    return f"{feature_name}.prefix"


def sample_partition(
    config: ModelConfig, store: ObjectStore, manifest: Manifest, limit: int = MAX_SAMPLE_ROWS
) -> PartitionSample:
    """At most `limit` rows, an equal share from row groups spread evenly over the partition in the store.

    Footers and those row groups are read where they lie: memory is bounded by the sample and one row group,
    and nothing is written to disk. Raises Corrupt when a part is missing or of another size, DataInvalid when
    one is not Parquet, StorageUnavailable.
    """
    partition = StoredPartition(store, manifest)
    groups: list[tuple[int, int]] = []
    total, difference = 0, None
    for part, footer in enumerate(partition.footers()):
        difference = difference or schema_difference(config, footer.schema)
        total += sum(footer.rows)
        groups += [(part, number) for number, rows in enumerate(footer.rows) if rows]
    if difference is not None:
        return PartitionSample(None, total, difference)
    chosen = groups
    if total > limit:
        chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, _MAX_GROUPS).astype(int))]
    pieces = []
    left = limit
    for done, (part, number) in enumerate(chosen):
        table = partition.read_group(part, number)
        share = min(table.num_rows, left // (len(chosen) - done))
        left -= share
        # A copy: a slice would keep the whole row group in memory.
        pieces.append(table.take(np.arange(table.num_rows - share, table.num_rows)))
    rows = pa.concat_tables(pieces) if pieces else None
    return PartitionSample(rows, total, None)


def sample_frame(config: ModelConfig, rows: pa.Table) -> "pd.DataFrame":
    """A sample for Great Expectations: label, time and dense as they are; of an id feature, the number

    of ids in the row (null where the column is null) and, under prefix_column, their prefix: the
    first wrong one if there is one, null for a row without ids.
    """
    import pandas as pd

    columns: dict[str, Any] = {"label": rows["label"].to_pandas(), "time": _nullable(rows["time"])}
    prefixes: dict[str, Any] = {}
    ids = {feature.name: feature for feature in config.id_features}
    for name in rows.column_names[2:]:
        if name in ids:
            columns[name], prefixes[prefix_column(name)] = _ids(config, ids[name], rows[name])
        else:
            columns[name] = rows[name].to_pandas()
    return pd.DataFrame({**columns, **prefixes})


def _nullable(column: Any) -> "pd.Series[Any]":
    import pandas as pd

    series: pd.Series[Any] = column.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return series


def _ids(config: ModelConfig, feature: IdFeature, column: Any) -> tuple[Any, NDArray[np.float64]]:
    import pandas as pd

    bits = config.dataset.prefix_bits
    expected = config.table(feature.table).prefix
    column = column.combine_chunks()
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if isinstance(feature, MultiCategoricalFeature):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
        flat = pc.list_flatten(column)
        present = flat.is_valid().to_numpy(zero_copy_only=False)
        values = pc.fill_null(flat, 0).to_numpy()
        owner = np.repeat(np.arange(len(column)), lengths)
    else:
        lengths = valid.astype(np.int64)
        values, owner = column.drop_null().to_numpy(), np.flatnonzero(valid)
        present = np.ones(len(values), dtype=bool)
    found = (values.astype(np.int64).view(np.uint64) >> np.uint64(64 - bits)).astype(np.float64)
    found[~present] = -1  # a null inside a bag is no id of any table
    prefix = np.where(lengths > 0, float(expected), np.nan)
    wrong = np.flatnonzero(found != expected)[::-1]  # so that the first one of a row is written last
    prefix[owner[wrong]] = found[wrong]
    counts = pd.array(lengths, dtype="Int64")
    counts[~valid] = pd.NA
    return counts, prefix
