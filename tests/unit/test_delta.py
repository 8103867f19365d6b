"""Deltas against dictionaries: what they hold, and that parent and delta give the table, proven by digest."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from persia_core.errors import Corrupt
from persia_core.handoff import embedding_file
from persia_core.handoff.delta import DeltaWriter, apply_delta
from persia_core.handoff.embedding_file import EmbeddingFile, EmbeddingWriter
from persia_core.handoff.embedding_rows import IDS, EmbeddingRows, Kind, encode

DIM = 3
Table = dict[int, list[float]]


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_file, "ROW_GROUP", 8)


def rows_of(table: Table, kind: Kind) -> EmbeddingRows:
    ids = np.array(sorted(table), np.uint64)
    weights = np.array([table[int(id_)] for id_ in ids], np.float32).reshape(len(ids), DIM)
    return encode(kind, ids, weights)


def write(path: Path, table: Table, kind: Kind) -> tuple[EmbeddingFile, str]:
    with EmbeddingWriter(path, kind, DIM) as writer:
        writer.write(rows_of(table, kind))
    return EmbeddingFile(path, kind, DIM, len(table)), writer.digest


def difference(
    root: Path, old: Table, new: Table, kind: Kind, piece: int
) -> tuple[EmbeddingFile, EmbeddingFile]:
    parent, _ = write(root / "old", old, kind)
    rows = rows_of(new, kind)
    with DeltaWriter(parent, root / "changed", root / "removed", kind, DIM) as delta:
        for start in range(0, len(rows), piece):
            delta.add(rows.take(slice(start, start + piece)))
    written = delta.written
    changed = EmbeddingFile(root / "changed", kind, DIM, written.changed)
    return changed, EmbeddingFile(root / "removed", IDS, 0, written.removed)


def random_tables(seed: int) -> tuple[Table, Table]:
    rng = np.random.default_rng(seed)
    ids = [int(id_) for id_ in rng.integers(0, 2**63, rng.integers(0, 120)).astype(np.uint64) * np.uint64(2)]
    old: Table = {id_: rng.normal(size=DIM).tolist() for id_ in ids if rng.random() < 0.8}
    new: Table = {}
    for id_ in ids:
        if id_ not in old or rng.random() < 0.2:
            new[id_] = rng.normal(size=DIM).tolist()
        elif rng.random() < 0.8:
            new[id_] = old[id_]
    return old, new


CASES = {
    **{f"random {seed}": random_tables(seed) for seed in range(6)},
    "nothing changed": ({1: [1.0] * 3, 9: [2.0] * 3},) * 2,
    "no parent rows": ({}, {n: [float(n)] * 3 for n in range(1, 30)}),
    "all gone": ({n: [float(n)] * 3 for n in range(1, 30)}, {}),
    "all gone but one": ({n: [float(n)] * 3 for n in range(1, 30)}, {2**63: [1.0] * 3}),
    "both empty": ({}, {}),
    "sign of zero": ({5: [0.0] * 3, 6: [float("nan")] * 3}, {5: [-0.0] * 3, 6: [float("nan")] * 3}),
}


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_a_delta_is_the_difference_and_brings_the_parent_to_the_table(
    tmp_path: Path, name: str, kind: Kind
) -> None:
    old, new = CASES[name]
    changed, removed = difference(tmp_path, old, new, kind, piece=5)
    before, after = rows_of(old, kind).packed(), rows_of(new, kind).packed()
    lines = dict(zip(sorted(old), map(bytes, before), strict=True))
    expected = [
        id_ for id_, line in zip(sorted(new), map(bytes, after), strict=True) if lines.get(id_) != line
    ]
    assert pq.read_table(tmp_path / "changed")["id"].to_pylist() == expected
    assert pq.read_table(tmp_path / "removed")["id"].to_pylist() == sorted(old.keys() - new.keys())
    parent = EmbeddingFile(tmp_path / "old", kind, DIM, len(old))
    rows, digest = apply_delta(parent, changed, removed, tmp_path / "made", kind, DIM)
    table, published = write(tmp_path / "new", new, kind)
    assert (rows, digest) == (len(new), published)
    assert table.digest() == published
    assert (tmp_path / "made").read_bytes() == (tmp_path / "new").read_bytes()


def test_a_delta_on_another_parent_never_has_the_digest(tmp_path: Path) -> None:
    old, new = random_tables(2)
    changed, removed = difference(tmp_path, old, new, "float32", piece=1000)
    _, published = write(tmp_path / "new", new, "float32")
    kept = [id_ for id_ in old if old[id_] == new.get(id_)]
    gone = [id_ for id_ in old if id_ not in new]
    other = {**old, kept[0]: [9.0] * 3}
    parent, _ = write(tmp_path / "other", other, "float32")
    assert apply_delta(parent, changed, removed, tmp_path / "made", "float32", DIM)[1] != published
    for missing in (gone[0], max(gone)):
        lacking = {id_: row for id_, row in old.items() if id_ != missing}
        parent, _ = write(tmp_path / "other", lacking, "float32")
        with pytest.raises(Corrupt, match="does not have"):
            apply_delta(parent, changed, removed, tmp_path / "made", "float32", DIM)
