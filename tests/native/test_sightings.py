"""Sightings and the count of updates in embedding parts: stop, restore, continue equals never stopped."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeWorker
from reference import PREFIX_BITS, id_of, make_table
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from test_frames import DISCARD, LOAD, LOOKUP, SAVE, UPDATE, Client, lookup_payload, update_payload
from test_learning_rate import Pair
from test_parts import with_checksum

from persia_core import _native

TABLE = make_table("t", 1, 1, admission={"kind": "sightings", "count": 3})
OTHER = make_table("u", 2, 3, optimizer={"kind": "sgd", "learning_rate": 0.1})
KNOWN = range(40)


def ids_of(values: Any) -> list[Any]:
    return [np.array([id_of(TABLE, int(v)) for v in values], np.uint64), np.array([], np.uint64)]


def offsets_of(rows: int) -> list[Any]:
    return [np.arange(rows + 1, dtype=np.int64), np.zeros(rows + 1, np.int64)]


def see(worker: _native.EmbeddingWorker, batch: int) -> None:
    """Look some ids up for training, some of them again and again."""
    values = np.unique(np.random.default_rng(batch).integers(0, len(KNOWN), 12))
    worker.discard(worker.lookup(batch, ids_of(values), offsets_of(len(values)), training=True))


def present(worker: _native.EmbeddingWorker) -> set[int]:
    found = worker.lookup(0, ids_of(KNOWN), offsets_of(len(KNOWN)), training=False).pooled[0]
    return set(np.flatnonzero(found[:, 0]).tolist())


def save(worker: _native.EmbeddingWorker, directory: Path) -> list[str]:
    directory.mkdir()
    return [str(directory / str(part["name"])) for part in worker.save(str(directory))]


@pytest.mark.parametrize("servers", [(1, 1), (2, 2), (2, 3), (3, 1)])
def test_sightings_go_on_after_a_restore(
    make_worker: MakeWorker, tmp_path: Path, servers: tuple[int, int]
) -> None:
    tables = [TABLE, OTHER]
    through = make_worker(tables=tables, servers=servers[0])
    for batch in range(5):
        see(through, batch)
    paths = save(through, tmp_path / "cut")
    restored, forgetful = (make_worker(tables=tables, servers=servers[1]) for _ in range(2))
    restored.load(paths)
    for batch in range(5, 8):
        for worker in (through, restored, forgetful):
            see(worker, batch)
        assert present(restored) == present(through)
    assert present(forgetful) != present(through)
    if servers[0] == servers[1]:
        pairs = zip(save(through, tmp_path / "a"), save(restored, tmp_path / "b"), strict=True)
        assert all(Path(a).read_bytes() == Path(b).read_bytes() for a, b in pairs)


def test_the_part_holds_what_was_seen(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker(tables=[TABLE, OTHER])
    counts: dict[int, int] = {}
    for batch in range(5):
        see(worker, batch)
        for value in np.unique(np.random.default_rng(batch).integers(0, len(KNOWN), 12)).tolist():
            counts[value] = min(3, counts.get(value, 0) + 1)
    (path,) = save(worker, tmp_path / "cut")
    tensors = load_file(path)
    expected = sorted((id_of(TABLE, value), count) for value, count in counts.items())
    np.testing.assert_array_equal(tensors["t.seen_ids"], np.array([i for i, _ in expected], np.uint64))
    np.testing.assert_array_equal(tensors["t.sightings"], np.array([n for _, n in expected], np.uint8))
    assert not {"u.seen_ids", "u.sightings"} & tensors.keys()


def test_every_tensor_is_aligned_to_its_elements(make_worker: MakeWorker, tmp_path: Path) -> None:
    tables = [TABLE, OTHER, make_table("v", 3, 5, capacity_bytes=10_000)]
    worker = make_worker(tables=tables)
    ids = [np.array([id_of(table, v) for v in range(7)], np.uint64) for table in tables]
    for batch in range(3):
        found = worker.lookup(batch, ids, [np.arange(8, dtype=np.int64)] * 3, training=True)
        worker.discard(found)
    (path,) = save(worker, tmp_path / "cut")
    raw = Path(path).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__")
    assert len({entry["dtype"] for entry in header.values()}) == 3
    for name, entry in header.items():
        element = {"U64": 8, "F32": 4, "U8": 1}[entry["dtype"]]
        assert (8 + size + entry["data_offsets"][0]) % element == 0, name


def test_more_ids_than_can_be_remembered_begin_anew(make_worker: MakeWorker, tmp_path: Path) -> None:
    table = TABLE | {"admission": {"kind": "sightings", "count": 2}}
    worker = make_worker(tables=[table], servers=2)
    first = np.uint64(id_of(table, 0))
    everything = np.arange(1_200_000, dtype=np.uint64) + first  # on each server fewer than 2^20

    def look(each: _native.EmbeddingWorker, batch: int, ids: Any) -> int:
        offsets = [np.array([0, len(ids)], np.int64)]
        each.discard(each.lookup(batch, [ids], offsets, training=True))
        return sum(stats["tables"]["t"]["rows"] for stats in each.stats())  # type: ignore[index]

    assert look(worker, 0, everything) == 0
    paths = save(worker, tmp_path / "cut")
    two, one = make_worker(tables=[table], servers=2), make_worker(tables=[table], servers=1)
    two.load(paths)
    one.load(paths)
    assert look(two, 1, everything[:100]) == 100
    assert look(one, 1, everything[:100]) == 0
    assert look(one, 2, everything[:100]) == 100


def test_damaged_sightings_are_refused(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker(tables=[TABLE, OTHER])
    for batch in range(5):
        see(worker, batch)
    (path,) = save(worker, tmp_path / "cut")
    tensors, damaged = load_file(path), tmp_path / "damaged.safetensors"
    with safe_open(path, "numpy") as opened:
        metadata = opened.metadata()

    def refused(**changes: Any) -> str:
        content = {name: each for name, each in (tensors | changes).items() if each is not None}
        save_file(content, damaged, metadata)
        save_file(content, damaged, with_checksum(damaged, metadata))
        with pytest.raises(_native.ServerError, match=r"damaged\.safetensors") as caught:
            make_worker(tables=[TABLE, OTHER], servers=2).load([str(damaged)])
        return str(caught.value)

    ids, counts = tensors["t.seen_ids"], tensors["t.sightings"]
    foreign = ids.copy()
    foreign[-1] = np.uint64(3 << (64 - PREFIX_BITS))
    zero = counts.copy()
    zero[2] = 0
    assert "do not ascend" in refused(**{"t.seen_ids": ids[::-1].copy()})
    assert "another prefix" in refused(**{"t.seen_ids": foreign})
    assert "0 times" in refused(**{"t.sightings": zero})
    assert "one count per id" in refused(**{"t.sightings": counts[1:].copy()})
    assert "one count per id" in refused(**{"t.seen_ids": None})
    assert "dtype" in refused(**{"t.sightings": counts.astype(np.float32)})
    assert "wrong shape" in refused(**{"t.seen_ids": ids.reshape(-1, 1)})
    assert "wrong shape" in refused(step=np.zeros(2, np.uint64))
    assert "no tensor step" in refused(step=None)
    save_file({name: each[:0] if name.startswith("t.") else each for name, each in tensors.items()}
              | {"t.seen_ids": ids, "t.sightings": counts}, damaged, metadata)  # fmt: skip
    twice = [path, str(damaged)]
    save_file(load_file(damaged), damaged, with_checksum(damaged, metadata))
    with pytest.raises(_native.ServerError, match=r"damaged\.safetensors.*was seen in an earlier part"):
        make_worker(tables=[TABLE, OTHER]).load(twice)


def string(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode()


def test_every_applied_update_is_a_step() -> None:
    client = Client()
    nothing = struct.pack("<QII", 2, 0, 0)
    for batch in range(1, 5):
        assert client.send(LOOKUP, lookup_payload(batch, [5])) is None
    assert client.counters()["step"] == 0
    assert client.send(UPDATE, update_payload(1, [5], [1, 1])) is None
    assert client.send(UPDATE, nothing) is None
    assert client.send(UPDATE, update_payload(3, [5], [float("nan"), 1])) is not None
    assert client.send(DISCARD, struct.pack("<Q", 3)) is None
    assert client.counters()["step"] == 2


def test_in_mode_sync_a_batch_is_a_step() -> None:
    pair = Pair()
    assert pair.answers(UPDATE, update_payload(1, [5], [1, 1]), 0) == []
    assert pair.answers(UPDATE, update_payload(1, [5], [1, 1]), 1) == [None, None]
    assert pair.counters()["step"] == 1
    for batch, discards in ((2, 1), (3, 2)):
        for trainer in range(2):
            assert pair.answers(LOOKUP, lookup_payload(batch, [5]), trainer) == [None]
        pair.answers(DISCARD, struct.pack("<Q", batch), 0)
        last = struct.pack("<Q", batch) if discards == 2 else update_payload(batch, [5], [1, 1])
        assert pair.answers(DISCARD if discards == 2 else UPDATE, last, 1) == [None, None]
    assert pair.counters()["step"] == 2


def test_the_step_goes_on_from_the_most_of_all_parts(tmp_path: Path) -> None:
    paths = []
    for steps in (2, 5):
        client = Client()
        for batch in range(steps):
            assert client.send(LOOKUP, lookup_payload(batch, [10 * steps + batch])) is None
            assert client.send(UPDATE, update_payload(batch, [], [])) is None
        (tmp_path / str(steps)).mkdir()
        assert client.send(SAVE, string(str(tmp_path / str(steps)))) is None
        paths.append(tmp_path / str(steps) / "embedding-0.safetensors")
        np.testing.assert_array_equal(load_file(paths[-1])["step"], [steps])
    for order in (paths, paths[::-1]):
        client = Client()
        assert client.send(LOAD, struct.pack("<I", 2) + b"".join(string(str(p)) for p in order)) is None
        assert client.counters()["step"] == 5
        assert client.counters()["tables.t.rows"] == 7
