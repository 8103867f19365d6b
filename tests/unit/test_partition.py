"""Reading hashed partitions, against plain Python over the whole Parquet files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from persia_core.config import ModelConfig
from persia_core.data.batch import HashedBatch, to_arrays
from persia_core.data.partition import LocalPartition, open_partition
from persia_core.errors import Corrupt, DataInvalid, PartitionEmpty, PartitionMissing
from persia_core.handoff.layout import MANIFEST, hashed_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import digest_of, part_of
from tests.support.hashed import hashed_table, write_hashed_partition, write_hashed_table
from tests.support.small_config import small_config, small_rows

DS = "2026-01-01"
PREFIX = hashed_prefix("clicks", DS)


@pytest.fixture
def config() -> ModelConfig:
    return small_config()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def stored_rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Every row of the stored parts as Python values, read without our reader."""
    directory = tmp_path / "store" / PREFIX
    manifest = json.loads((directory / MANIFEST).read_text())
    return [row for part in manifest["parts"] for row in pq.read_table(directory / part["path"]).to_pylist()]


def rows_of(config: ModelConfig, batch: HashedBatch) -> list[dict[str, Any]]:
    """A batch back as one dictionary per row: floats, and lists of signed ids."""
    rows = []
    for i in range(batch.rows):
        row: dict[str, Any] = {"label": float(batch.labels[i])}
        row |= {f.name: float(batch.dense[i, d]) for d, f in enumerate(config.dense_features)}
        for position, feature in enumerate(config.id_features):
            low, high = batch.offsets[position][i : i + 2]
            row[feature.name] = batch.ids[position][low:high].view(np.int64).tolist()
        rows.append(row)
    return rows


def bags(config: ModelConfig, row: dict[str, Any]) -> dict[str, Any]:
    """A stored row in the form of rows_of."""
    out = {name: value for name, value in row.items() if name != "time"}
    for feature in config.id_features:
        value = row[feature.name]
        out[feature.name] = value if isinstance(value, list) else [] if value is None else [value]
    return out


def test_any_range_equals_the_stored_rows(config: ModelConfig, store: LocalStore, tmp_path: Path) -> None:
    write_hashed_partition(config, store, DS, small_rows(103), rows_per_part=40, rows_per_group=16)
    partition = open_partition(store, config, DS, tmp_path / "work")
    expected = [bags(config, row) for row in stored_rows(tmp_path)]
    assert partition.rows == len(expected) == 103
    assert any(row["last"] == [] for row in expected) and any(len(row["tags"]) == 3 for row in expected)
    for start in (0, 1, 15, 16, 17, 39, 40, 41, 79, 80, 102, 103):
        for stop in (start, start + 1, start + 16, start + 40, 103):
            if start <= stop <= 103:
                batch = to_arrays(config, partition.read(start, stop))
                assert rows_of(config, batch) == expected[start:stop], (start, stop)


def test_arrays_have_the_promised_types_and_own_their_memory(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    write_hashed_partition(config, store, DS, small_rows(50), rows_per_group=50)
    partition = open_partition(store, config, DS, tmp_path / "work")
    batch = to_arrays(config, partition.read(10, 20))
    before = rows_of(config, batch)
    assert batch.labels.dtype == batch.dense.dtype == np.float32
    assert batch.dense.shape == (10, 2)
    for ids, offsets in zip(batch.ids, batch.offsets, strict=True):
        assert ids.dtype == np.uint64 and offsets.dtype == np.int64
        assert offsets.shape == (11,) and offsets[0] == 0 and offsets[-1] == ids.size
        assert ids.flags.writeable and ids.flags.c_contiguous
        ids[:] = 0
    batch.labels[:] = -1
    batch.dense[:] = -1
    assert rows_of(config, to_arrays(config, partition.read(10, 20))) == before


def test_a_time_ordered_log_stays_time_ordered(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    write_hashed_partition(config, store, DS, small_rows(200), rows_per_part=30, rows_per_group=7)
    partition = open_partition(store, config, DS, tmp_path / "work")
    times = partition.read(0, 200)["time"].to_pylist()
    assert times == sorted(int(t) for t in small_rows(200)["t"])


def test_a_prefix_with_the_top_bit_survives_as_unsigned(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    rows = small_rows(5)
    rows["t"] = ["3600"] * 5
    write_hashed_partition(config, store, DS, rows)
    batch = to_arrays(config, open_partition(store, config, DS, tmp_path / "work").read(0, 5))
    hour = [feature.name for feature in config.id_features].index("hour")
    expected = (200 << 56) | (xxhash.xxh64_intdigest(b"pepper/hour/1", seed=42) >> 8)
    assert batch.ids[hour].tolist() == [expected] * 5


def test_features_of_one_table_share_ids(config: ModelConfig, store: LocalStore, tmp_path: Path) -> None:
    rows = small_rows(3)
    rows["item"], rows["last"] = ["a", "b", "c"], ["a", "b", None]
    write_hashed_partition(config, store, DS, rows)
    batch = to_arrays(config, open_partition(store, config, DS, tmp_path / "work").read(0, 3))
    names = [feature.name for feature in config.id_features]
    items, last = batch.ids[names.index("item")], batch.ids[names.index("last")]
    assert len(set(items.tolist())) == 3 and set(last.tolist()) < set(items.tolist())


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 11), (11, 11)])
def test_a_range_outside_is_an_error(
    config: ModelConfig, store: LocalStore, tmp_path: Path, start: int, stop: int
) -> None:
    write_hashed_partition(config, store, DS, small_rows(10))
    partition = open_partition(store, config, DS, tmp_path / "work")
    with pytest.raises(IndexError, match="of a partition of 10 rows"):
        partition.read(start, stop)


def test_a_missing_partition_names_the_uri_and_the_remedy(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    with pytest.raises(PartitionMissing) as caught:
        open_partition(store, config, DS, tmp_path / "work")
    assert store.uri(PREFIX + MANIFEST) in caught.value.what
    assert "run persia hash for this day" in caught.value.remedy


def test_parts_without_a_manifest_are_no_partition(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    write_hashed_partition(config, store, DS, small_rows(10))
    store.delete(PREFIX + MANIFEST)
    with pytest.raises(PartitionMissing):
        open_partition(store, config, DS, tmp_path / "work")


def test_a_partition_without_rows_is_empty(config: ModelConfig, store: LocalStore, tmp_path: Path) -> None:
    write_hashed_table(config, store, DS, hashed_table(config, small_rows(3)).slice(0, 0))
    with pytest.raises(PartitionEmpty, match=f"ds={DS} of clicks holds no rows"):
        open_partition(store, config, DS, tmp_path / "work")


def test_empty_parts_between_full_ones_are_skipped(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    table = hashed_table(config, small_rows(6))
    manifest = write_hashed_table(config, store, DS, table, rows_per_part=2)
    empty = tmp_path / "empty.parquet"
    pq.write_table(table.slice(0, 0), empty)
    store.upload(empty, PREFIX + "part-00001.parquet")
    parts = list(manifest.parts)
    parts[1] = part_of(tmp_path, empty, 0).model_copy(update={"path": "part-00001.parquet"})
    changed = manifest.model_copy(update={"parts": parts, "digest": digest_of(parts)})
    store.put(PREFIX + MANIFEST, changed.to_bytes())
    partition = open_partition(store, config, DS, tmp_path / "work")
    expected = table["time"].to_pylist()
    assert partition.read(0, 4)["time"].to_pylist() == expected[:2] + expected[4:]


def test_another_schema_is_refused(config: ModelConfig, store: LocalStore, tmp_path: Path) -> None:
    write_hashed_partition(config, store, DS, small_rows(10))
    salted = config.dataset.model_dump() | {"salt": "other"}
    with pytest.raises(DataInvalid, match="another schema"):
        open_partition(store, small_config(dataset=salted), DS, tmp_path / "work")


def test_a_manifest_of_another_kind_is_refused(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    manifest = write_hashed_partition(config, store, DS, small_rows(10))
    other = manifest.model_copy(update={"kind": "checkpoint"})
    store.put(PREFIX + MANIFEST, other.to_bytes())
    with pytest.raises(DataInvalid, match="of kind checkpoint"):
        open_partition(store, config, DS, tmp_path / "work")


def test_a_manifest_of_another_day_is_refused(config: ModelConfig, store: LocalStore, tmp_path: Path) -> None:
    manifest = write_hashed_partition(config, store, DS, small_rows(10))
    store.put(hashed_prefix("clicks", "2026-01-02") + MANIFEST, manifest.to_bytes())
    with pytest.raises(DataInvalid, match="ds=2026-01-01 of clicks"):
        open_partition(store, config, "2026-01-02", tmp_path / "work")


def test_every_flipped_byte_of_a_part_is_found(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    write_hashed_partition(config, store, DS, small_rows(10))
    path = tmp_path / "store" / PREFIX / "part-00000.parquet"
    good = path.read_bytes()
    for position in range(0, len(good), 97):
        bad = bytearray(good)
        bad[position] ^= 1
        path.write_bytes(bytes(bad))
        with pytest.raises(Corrupt, match="has another SHA-256 than its manifest says"):
            open_partition(store, config, DS, tmp_path / "work")
    path.write_bytes(good[:-1])
    with pytest.raises(Corrupt, match=f"has {len(good) - 1} bytes, its manifest says {len(good)}"):
        open_partition(store, config, DS, tmp_path / "work")
    path.unlink()
    with pytest.raises(Corrupt, match="is missing, its manifest lists it"):
        open_partition(store, config, DS, tmp_path / "work")
    path.write_bytes(good)
    assert open_partition(store, config, DS, tmp_path / "work").rows == 10


def test_a_damaged_local_copy_is_fetched_again(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    write_hashed_partition(config, store, DS, small_rows(10))
    first = open_partition(store, config, DS, tmp_path / "work").read(0, 10)
    (copy,) = (tmp_path / "work").rglob("*.parquet")
    copy.write_bytes(b"x" * copy.stat().st_size)
    assert open_partition(store, config, DS, tmp_path / "work").read(0, 10).equals(first)


def test_a_good_local_copy_is_not_fetched_again(
    config: ModelConfig, store: LocalStore, tmp_path: Path
) -> None:
    write_hashed_partition(config, store, DS, small_rows(10))
    open_partition(store, config, DS, tmp_path / "work")
    (copy,) = (tmp_path / "work").rglob("*.parquet")
    before = copy.stat()
    open_partition(store, config, DS, tmp_path / "work")
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def damage(table: pa.Table, kind: str) -> pa.Table:
    if kind == "missing column":
        return table.drop_columns(["user"])
    if kind == "extra column":
        return table.append_column("more", table["user"])
    if kind == "order":
        return table.select([*table.column_names[:2], *reversed(table.column_names[2:])])
    return table.set_column(3, "user", table["user"].cast(pa.string()))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing column", r"columns differ \(missing: user\)"),
        ("extra column", r"columns differ \(not expected: more\)"),
        ("order", r"columns differ \(other order\)"),
        ("type", "column user is string, expected int64"),
    ],
)
def test_other_columns_than_declared_are_refused(
    config: ModelConfig, store: LocalStore, tmp_path: Path, kind: str, message: str
) -> None:
    write_hashed_table(config, store, DS, damage(hashed_table(config, small_rows(4)), kind))
    with pytest.raises(DataInvalid, match=message):
        open_partition(store, config, DS, tmp_path / "work")


def test_a_null_inside_a_bag_is_refused(config: ModelConfig) -> None:
    table = hashed_table(config, small_rows(2))
    bad = table.set_column(
        table.column_names.index("tags"), "tags", pa.array([[1, None], []], pa.list_(pa.int64()))
    )
    with pytest.raises(DataInvalid, match="feature tags: a bag holds a null id"):
        to_arrays(config, bad)


def test_what_is_not_parquet_is_refused(config: ModelConfig, store: LocalStore, tmp_path: Path) -> None:
    manifest = write_hashed_partition(config, store, DS, small_rows(3))
    (tmp_path / "part-00000.parquet").write_text("label,time\n1,2\n")
    with pytest.raises(DataInvalid, match="is not Parquet"):
        LocalPartition(tmp_path, manifest, config)
