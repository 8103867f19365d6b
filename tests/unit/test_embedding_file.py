"""Rows in Parquet, against plain NumPy and dictionaries: kinds, order, digests, seeking, hostile files."""

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from persia_core.checkpoint.tables import TableShard
from persia_core.errors import Corrupt
from persia_core.handoff import embedding_file
from persia_core.handoff.embedding_file import EmbeddingFile, EmbeddingWriter
from persia_core.handoff.embedding_rows import EmbeddingRows, Kind, encode
from persia_core.handoff.merge import merged

KINDS: list[Kind] = ["float32", "float16", "int8"]
DIM = 5


def table(rows: int, seed: int = 0) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Ids over the whole of 64 bits, and weights of very different sizes per row."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(2**62, rows, replace=False).astype(np.uint64) * np.uint64(4))
    ids[-1:] = np.uint64(2**64 - 1)
    size = 10.0 ** rng.integers(-6, 4, rows)
    return ids, (rng.normal(size=(rows, DIM)) * size[:, None]).astype(np.float32)


def write(path: Path, kind: Kind, ids: NDArray[np.uint64], weights: NDArray[np.float32]) -> str:
    with EmbeddingWriter(path, kind, DIM) as writer:
        writer.write(encode(kind, ids, weights))
    assert writer.rows == len(ids)
    return writer.digest


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_file, "ROW_GROUP", 16)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_back_as_their_kind_allows(tmp_path: Path, kind: Kind) -> None:
    ids, weights = table(100)
    weights[7] = 0.0
    write(tmp_path / "t.parquet", kind, ids, weights)
    rows = EmbeddingFile(tmp_path / "t.parquet", kind, DIM, 100).read()
    np.testing.assert_array_equal(rows.ids, ids)
    assert rows.weights.dtype == np.float32
    if kind == "float32":
        np.testing.assert_array_equal(rows.weights, weights)
    elif kind == "float16":
        np.testing.assert_array_equal(rows.weights, weights.astype(np.float16).astype(np.float32))
    else:
        step = np.abs(weights.astype(np.float64)).max(axis=1) / 127
        assert (np.abs(rows.weights - weights.astype(np.float64)) <= step[:, None] * 0.50001).all()
        assert (np.abs(rows.values.astype(int)).max(axis=1)[np.arange(100) != 7] == 127).all()
    np.testing.assert_array_equal(rows.weights[7], np.zeros(DIM))


def test_the_file_is_read_by_plain_pyarrow(tmp_path: Path) -> None:
    ids, weights = table(100)
    write(tmp_path / "t.parquet", "int8", ids, weights)
    read = pq.read_table(tmp_path / "t.parquet")
    assert [(f.name, str(f.type)) for f in read.schema] == [
        ("id", "uint64"),
        ("embedding", f"fixed_size_list<element: int8>[{DIM}]"),
        ("scale", "float"),
    ]
    found = np.array(read["embedding"].to_pylist()) * np.array(read["scale"].to_pylist())[:, None]
    assert read["id"].to_pylist() == ids.tolist()
    np.testing.assert_allclose(found, weights, atol=np.abs(weights).max() / 250)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_stays_so(kind: Kind, bad: float) -> None:
    ids, weights = table(3)
    weights[1, 2] = bad
    rows = encode(kind, ids, weights)
    assert not np.isfinite(rows.weights[1, 2])
    assert np.isfinite(rows.weights[[0, 2]]).all()


def test_the_digest_is_sha_256_over_ids_and_values(tmp_path: Path) -> None:
    ids, weights = table(40)
    lines: dict[Kind, Any] = {
        "float32": lambda row: struct.pack(f"<{DIM}f", *row),
        "float16": lambda row: struct.pack(f"<{DIM}e", *row),
    }
    for kind, pack in lines.items():
        weights = np.clip(weights, -60000, 60000)
        expected = hashlib.sha256()
        for id_, row in zip(ids.tolist(), weights.astype(kind).tolist(), strict=True):
            expected.update(struct.pack("<Q", id_) + pack(row))
        assert write(tmp_path / "t.parquet", kind, ids, weights) == expected.hexdigest()
    rows = encode("int8", ids, weights)
    assert rows.scale is not None
    expected = hashlib.sha256()
    for id_, row, scale in zip(ids.tolist(), rows.values.tolist(), rows.scale.tolist(), strict=True):
        expected.update(struct.pack(f"<Q{DIM}bf", id_, *row, scale))
    assert write(tmp_path / "t.parquet", "int8", ids, weights) == expected.hexdigest()


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_do_not_depend_on_how_rows_are_handed_over(tmp_path: Path, kind: Kind) -> None:
    ids, weights = table(77)
    digest = write(tmp_path / "one.parquet", kind, ids, weights)
    with EmbeddingWriter(tmp_path / "many.parquet", kind, DIM) as writer:
        for start, stop in ((0, 0), (0, 1), (1, 40), (40, 40), (40, 76), (76, 77)):
            writer.write(encode(kind, ids[start:stop], weights[start:stop]))
    assert writer.digest == digest
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "many.parquet").read_bytes()
    groups = pq.read_metadata(tmp_path / "one.parquet")
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [16, 16, 16, 16, 13]


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_seeks_to_the_row_groups_that_can_hold_an_id(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, weights = table(100)
    write(tmp_path / "t.parquet", kind, ids, weights)
    file = EmbeddingFile(tmp_path / "t.parquet", kind, DIM, 100)
    read: list[int] = []
    group = EmbeddingFile._group
    monkeypatch.setattr(EmbeddingFile, "_group", lambda self, n: read.append(n) or group(self, n))
    by_id = dict(zip(ids.tolist(), encode(kind, ids, weights).weights, strict=True))
    asked = np.array([ids[20], ids[20] + np.uint64(1), ids[99], ids[18], 3, ids[20]], np.uint64)
    found = file.lookup(asked)
    expected = [by_id.get(int(id_), np.zeros(DIM)) for id_ in asked]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert read == [1, 6]
    assert file.lookup(asked[:0]).shape == (0, DIM)
    everything = np.random.default_rng(1).permutation(np.concatenate([ids, ids + np.uint64(1)]))
    np.testing.assert_array_equal(file.lookup(everything), file.read().lookup(everything))


def _write(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_claims_more_rows_than_its_bytes_hold_is_refused(tmp_path: Path, kind: Kind) -> None:
    rows = 200_000  # of equal values, which Parquet stores in a few bytes
    item = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}[kind]
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * DIM), pa.float64()).cast(item), DIM)
    columns: dict[str, Any] = {"id": pa.array(np.zeros(rows, np.uint64)), "embedding": zeros}
    if kind == "int8":
        columns["scale"] = pa.array(np.zeros(rows, np.float32))
    _write(tmp_path / "t.parquet", **columns)
    assert (tmp_path / "t.parquet").stat().st_size < rows
    with pytest.raises(Corrupt, match="200000 rows in"):
        EmbeddingFile(tmp_path / "t.parquet", kind, DIM, rows)


@pytest.mark.usefixtures("small_groups")
def test_ids_that_do_not_ascend_from_group_to_group_are_found(tmp_path: Path) -> None:
    ids, weights = table(32)
    with EmbeddingWriter(tmp_path / "t.parquet", "float32", DIM) as writer:
        writer.write(encode("float32", ids[16:], weights[16:]))
        writer.write(encode("float32", ids[:16], weights[:16]))
    with pytest.raises(Corrupt, match="not ascending"):
        EmbeddingFile(tmp_path / "t.parquet", "float32", DIM, 32).read()


def shards_of(
    ids: NDArray[np.uint64], weights: NDArray[np.float32], servers: int, seed: int
) -> list[TableShard]:
    owner = np.random.default_rng(seed).integers(servers, size=len(ids))
    return [TableShard(ids[owner == s], weights[owner == s]) for s in range(servers)]


@pytest.mark.parametrize("block", [1, 3, 1000])
@pytest.mark.parametrize("servers", [1, 2, 5])
def test_merging_gives_all_rows_in_order(servers: int, block: int) -> None:
    ids, weights = table(211)
    pieces = list(merged("t", shards_of(ids, weights, servers, seed=servers), block))
    assert all(len(piece[0]) <= servers * block for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([piece[0] for piece in pieces]), ids)
    np.testing.assert_array_equal(np.concatenate([piece[1] for piece in pieces]), weights)
    assert not list(merged("t", [], block))


@pytest.mark.parametrize("block", [1, 2, 1000])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([[1, 3, 2]], "not ascending"),
        ([[1, 2, 9], [4, 3]], "not ascending"),
        ([[1, 1]], "same id twice"),
        ([[1, 5], [2, 5, 6]], "same id twice"),
        ([[1, 2, 3, 4], [3]], "same id twice"),
    ],
)
def test_parts_that_are_no_parts_of_a_table_are_refused(
    parts: list[list[int]], message: str, block: int
) -> None:
    shards = [TableShard(np.array(part, np.uint64), np.zeros((len(part), DIM), np.float32)) for part in parts]
    with pytest.raises(Corrupt, match=message):
        list(merged("t", shards, block))


def test_rows_that_are_absent_are_zeros() -> None:
    rows = EmbeddingRows(
        np.array([3, 7, 2**64 - 1], np.uint64), np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    )
    ids = np.array([0, 3, 4, 7, 8, 2**64 - 1, 2**63], np.uint64)
    expected = [[0, 0], [1, 2], [0, 0], [3, 4], [0, 0], [5, 6], [0, 0]]
    assert rows.lookup(ids).tolist() == expected
    assert rows.lookup(ids[:0]).shape == (0, 2)
