"""Embedding parts: readable by anybody, and never loaded when damaged."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from conftest import MakeWorker
from reference import id_of, make_table
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from persia_core import _native

TABLES = [
    make_table(
        "user",
        1,
        3,
        optimizer={"kind": "adagrad", "learning_rate": 0.1, "initial_accumulator": 0.1, "epsilon": 1e-8},
    ),
    make_table("tag", 2, 2, optimizer={"kind": "sgd", "learning_rate": 0.1}),
]


def filled(make_worker: MakeWorker, **changes: Any) -> _native.EmbeddingWorker:
    worker = make_worker(tables=TABLES, **changes)
    ids = [np.array([id_of(table, v) for v in range(50)], dtype=np.uint64) for table in TABLES]
    offsets = [np.arange(51, dtype=np.int64)] * 2
    lookup = worker.lookup(0, ids, offsets, training=True)
    worker.update(lookup, [pooled * 3 for pooled in lookup.pooled], 1.0)
    return worker


def everything(worker: _native.EmbeddingWorker) -> list[Any]:
    ids = [np.array([id_of(table, v) for v in range(50)], dtype=np.uint64) for table in TABLES]
    lookup = worker.lookup(0, ids, [np.arange(51, dtype=np.int64)] * 2, training=False)
    return [lookup.missing_ids, *[pooled.copy() for pooled in lookup.pooled]]


def test_the_safetensors_package_reads_what_servers_write(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = filled(make_worker, servers=3)
    saved = worker.save(str(tmp_path))
    assert [part["name"] for part in saved] == [f"embedding-{s}.safetensors" for s in range(3)]
    assert sum(int(str(part["rows"])) for part in saved) == 100
    found: dict[int, Any] = {}
    for part in saved:
        path = tmp_path / str(part["name"])
        assert path.stat().st_size == part["bytes"]
        tensors = load_file(path)
        assert set(tensors) == {"user.ids", "user.weights", "user.state", "tag.ids", "tag.weights", "step"}
        assert tensors["step"] == [1]
        ids = tensors["user.ids"]
        assert ids.dtype == np.uint64
        assert (np.diff(ids.astype(object)) > 0).all()
        assert (_native.server_of(ids, 3) == part["server"]).all()
        assert tensors["user.weights"].shape == tensors["user.state"].shape == (len(ids), 3)
        found |= dict(zip(map(int, ids), tensors["user.weights"], strict=True))
        raw = path.read_bytes()
        data = raw[8 + int.from_bytes(raw[:8], "little") :]
        with safe_open(path, "numpy") as opened:
            metadata = opened.metadata()
        assert metadata["data_xxh64"] == f"{xxhash.xxh64(data, seed=0).intdigest():016x}"
        assert metadata["optimizers"] == "user=adagrad,tag=sgd"
    np.testing.assert_array_equal(
        np.stack([found[id_of(TABLES[0], v)] for v in range(50)]), everything(worker)[1]
    )
    assert not list(tmp_path.glob("*.tmp"))


def test_optimizer_state_survives(make_worker: MakeWorker, tmp_path: Path) -> None:
    original = filled(make_worker)
    (saved,) = original.save(str(tmp_path))
    restored = make_worker(tables=TABLES, servers=2)
    restored.load([str(tmp_path / str(saved["name"]))])
    for worker in (original, restored):
        ids = [np.array([id_of(table, 7)], dtype=np.uint64) for table in TABLES]
        lookup = worker.lookup(1, ids, [np.array([0, 1], dtype=np.int64)] * 2, training=True)
        worker.update(lookup, [np.ones_like(pooled) for pooled in lookup.pooled], 1.0)
    for a, b in zip(everything(original), everything(restored), strict=True):
        np.testing.assert_array_equal(a, b)


def test_equal_tables_are_equal_files(make_worker: MakeWorker, tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        filled(make_worker).save(str(tmp_path / name))
        contents.append((tmp_path / name / "embedding-0.safetensors").read_bytes())
    assert contents[0] == contents[1]


def test_saving_needs_a_consistent_cut(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = filled(make_worker)
    ids = [np.array([], dtype=np.uint64)] * 2
    lookup = worker.lookup(1, ids, [np.array([0], dtype=np.int64)] * 2, training=True)
    with pytest.raises(_native.ServerError, match="SAVE: BATCHES_OUTSTANDING"):
        worker.save(str(tmp_path))
    worker.discard(lookup)
    worker.save(str(tmp_path))


def test_loading_needs_empty_tables(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = filled(make_worker)
    (saved,) = worker.save(str(tmp_path))
    with pytest.raises(_native.ServerError, match="LOAD: NOT_EMPTY"):
        worker.load([str(tmp_path / str(saved["name"]))])


def with_checksum(path: Path, metadata: dict[str, str]) -> dict[str, str]:
    """`metadata` with the checksum of the data that are in `path`."""
    raw = path.read_bytes()
    data = raw[8 + int.from_bytes(raw[:8], "little") :]
    return metadata | {"data_xxh64": f"{xxhash.xxh64(data, seed=0).intdigest():016x}"}


def damaged_parts(whole: bytes, tensors: dict[str, Any], metadata: dict[str, str], path: Path) -> Any:
    """Pairs of a name and a function that writes a wrong part to `path`."""

    def rewrite(**changes: Any) -> None:
        content = tensors | changes
        save_file({name: tensor for name, tensor in content.items() if tensor is not None}, path, metadata)
        right = with_checksum(path, metadata)
        save_file({name: tensor for name, tensor in content.items() if tensor is not None}, path, right)

    foreign = tensors["user.ids"].copy()
    foreign[3] = id_of(TABLES[1], 3)
    twice = tensors["user.ids"].copy()
    twice[3] = twice[4]
    infinite = tensors["user.weights"].copy()
    infinite[2, 1] = np.inf
    return {
        "CORRUPT_PART cut": lambda: path.write_bytes(whole[:-1]),
        "CORRUPT_PART empty": lambda: path.write_bytes(b""),
        "CORRUPT_PART flipped": lambda: path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]),
        "CORRUPT_PART huge header": lambda: path.write_bytes((1 << 40).to_bytes(8, "little") + whole[8:]),
        "CORRUPT_PART no json": lambda: path.write_bytes(whole[:8] + b"x" + whole[9:]),
        "CORRUPT_PART foreign id": lambda: rewrite(**{"user.ids": foreign}),
        "CORRUPT_PART id twice": lambda: rewrite(**{"user.ids": twice}),
        "CORRUPT_PART infinite": lambda: rewrite(**{"user.weights": infinite}),
        "CORRUPT_PART fewer rows": lambda: rewrite(**{"user.weights": infinite[:-1]}),
        "CORRUPT_PART dtype": lambda: rewrite(**{"user.weights": np.ones((50, 3), np.uint64)}),
        "PART_MISMATCH dim": lambda: rewrite(**{"user.weights": np.ones((50, 4), np.float32)}),
        "PART_MISMATCH no state": lambda: rewrite(**{"user.state": None}),
        "PART_MISMATCH more tables": lambda: rewrite(**{"x.ids": foreign}),
        "IO_ERROR missing": path.unlink,
    }


def test_a_damaged_part_is_named_and_nothing_is_loaded(make_worker: MakeWorker, tmp_path: Path) -> None:
    (saved,) = filled(make_worker).save(str(tmp_path))
    path = tmp_path / str(saved["name"])
    whole, tensors = path.read_bytes(), load_file(path)
    with safe_open(path, "numpy") as opened:
        metadata = opened.metadata()
    good = tmp_path / "good.safetensors"
    # A good part of the same tables that holds other rows, loaded before the damaged one.
    other = make_worker(tables=TABLES)
    ids = [np.array([id_of(table, 1000)], dtype=np.uint64) for table in TABLES]
    other.discard(other.lookup(0, ids, [np.array([0, 1], dtype=np.int64)] * 2, training=True))
    (tmp_path / "other").mkdir()
    other.save(str(tmp_path / "other"))
    (tmp_path / "other" / path.name).rename(good)
    worker = make_worker(tables=TABLES, servers=2)
    for name, damage in damaged_parts(whole, tensors, metadata, path).items():
        damage()
        code = name.split()[0]
        with pytest.raises(_native.ServerError, match=rf"server rank 0: LOAD: {code}: .*{path.name}"):
            worker.load([str(good), str(path)])
        assert sum(t["rows"] for s in worker.stats() for t in s["tables"].values()) == 0, name  # type: ignore[attr-defined]
    path.write_bytes(whole)
    loaded = worker.load([str(good), str(path)])
    assert sum(int(str(part["rows"])) for part in loaded) == 102
    assert everything(worker)[0] == 0


def test_a_checkpoint_of_another_optimizer_is_refused(make_worker: MakeWorker, tmp_path: Path) -> None:
    (saved,) = filled(make_worker).save(str(tmp_path))
    changed = [TABLES[0], TABLES[1] | {"optimizer": TABLES[0]["optimizer"]}]
    with pytest.raises(_native.ServerError, match=r"PART_MISMATCH: .*user=adagrad,tag=sgd"):
        make_worker(tables=changed).load([str(tmp_path / str(saved["name"]))])


def test_a_directory_that_is_not_there_is_named(make_worker: MakeWorker, tmp_path: Path) -> None:
    with pytest.raises(_native.ServerError, match=r"SAVE: IO_ERROR: .*/nowhere/embedding-0"):
        filled(make_worker).save(str(tmp_path / "nowhere"))


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from reference import id_of, make_table
from persia_core import _native

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
table = make_table("t", 1, 64)
worker = _native.EmbeddingWorker(transport="in-process", servers=1, tables=[table], features=[0], trainer=0,
    trainers=1, staleness=1, combine=False, seed=1, timeout_s=20.0)
worker.configure()
ids = np.array([id_of(table, v) for v in range(20000)], dtype=np.uint64)
worker.discard(worker.lookup(0, [ids], [np.array([0, 20000], dtype=np.int64)], training=True))
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
try:
    worker.save(sys.argv[1])
except _native.ServerError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(worker.save(sys.argv[1])[0]["rows"])
"""


def test_a_full_disk_is_an_error_and_the_next_save_works(tmp_path: Path) -> None:
    # The file size limit stands for the disk: the same way through write(2), with no file system of our own.
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    error, rows = result.stdout.splitlines()
    assert "server rank 0: SAVE: NO_SPACE: " in error
    assert str(tmp_path / "embedding-0.safetensors") in error
    assert "no space left" in error
    assert rows == "20000"
    assert [path.name for path in tmp_path.iterdir()] == ["embedding-0.safetensors"]


def test_rows_are_the_same_restored_from_any_number_of_servers_to_any(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    expected = None
    for saving in (1, 2, 3, 4):
        directory = tmp_path / str(saving)
        directory.mkdir()
        worker = filled(make_worker, servers=saving, server_threads=1 + saving % 2)
        paths = [str(directory / str(part["name"])) for part in worker.save(str(directory))]
        expected = expected or everything(worker)
        for restoring in (1, 2, 3, 4):
            restored = make_worker(tables=TABLES, servers=restoring, server_threads=1 + restoring // 3)
            restored.load(paths)
            assert all(map(np.array_equal, everything(restored), expected)), (saving, restoring)
            again = tmp_path / f"{saving} to {restoring}"
            again.mkdir()
            restored.save(str(again))
            assert state_by_id(again) == state_by_id(directory)


def state_by_id(directory: Path) -> dict[int, bytes]:
    """Weights and optimizer state of every row, by its id."""
    found: dict[int, bytes] = {}
    for path in directory.glob("embedding-*.safetensors"):
        tensors = load_file(path)
        for name, ids in ((name, t) for name, t in tensors.items() if name.endswith(".ids")):
            table = name.removesuffix(".ids")
            state = tensors.get(f"{table}.state", np.empty((len(ids), 0)))
            for id_, weights, more in zip(ids.tolist(), tensors[f"{table}.weights"], state, strict=True):
                assert id_ not in found
                found[id_] = weights.tobytes() + more.tobytes()
    assert len(found) == 100
    return found
