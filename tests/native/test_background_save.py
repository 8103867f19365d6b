"""A save that goes on while the servers do: what it holds, and what becomes of it when something breaks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import MakeWorker
from reference import batch_of, make_table
from safetensors.numpy import load_file

from persia_core import _native
from persia_core.embedding.errors import as_persia_error
from persia_core.errors import DiskFull, RankFailed
from tests.support.served import served

TABLES = [
    make_table("user", 1, 16),
    make_table("tag", 2, 3, optimizer={"kind": "sgd", "learning_rate": 0.1}, capacity_bytes=4000),
]
DEADLINE_S = 60.0


def train(worker: _native.EmbeddingWorker, batch: int, values: range) -> None:
    ids, offsets = batch_of(TABLES, [np.array(values), np.array(values)])
    lookup = worker.lookup(batch, ids, offsets, training=True)
    worker.update(lookup, [np.ones_like(pooled) * (batch + 1) for pooled in lookup.pooled], 1.0)


def finish(tables: Any) -> list[dict[str, object]]:
    """Ask until it is done."""
    deadline = time.monotonic() + DEADLINE_S
    while (saved := tables.finish_save()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return list(saved)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def begin_and_stop(worker: _native.EmbeddingWorker, directory: Path) -> psutil.Process:
    """A save that is under way for as long as its process is stopped."""
    for _ in range(100):
        others = set(psutil.Process().children())  # such as a storage server that other tests use
        worker.begin_save(str(directory))
        for child in set(psutil.Process().children()) - others:
            if child.status() == psutil.STATUS_ZOMBIE:
                continue
            child.suspend()
            while (status := child.status()) not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                time.sleep(0.001)
            if status == psutil.STATUS_STOPPED:
                return child
        finish(worker)  # it was done before it could be stopped
    raise AssertionError("no save could be stopped")


@pytest.fixture
def large(make_worker: MakeWorker) -> _native.EmbeddingWorker:
    """One server with enough rows that a save takes a while."""
    worker = make_worker(tables=TABLES)
    train(worker, 1, range(100_000))
    return worker


@pytest.mark.parametrize(("servers", "threads"), [(1, 1), (3, 1), (2, 3)])
def test_a_snapshot_holds_what_was_there_when_it_began(
    make_worker: MakeWorker, tmp_path: Path, servers: int, threads: int
) -> None:
    worker = make_worker(tables=TABLES, servers=servers, server_threads=threads)
    train(worker, 1, range(2000))
    whole = worker.save(str(folder(tmp_path / "whole")))
    ids, offsets = batch_of(TABLES, [np.arange(2000), np.arange(2000)])
    before = worker.lookup(0, ids, offsets, training=False).pooled[0].copy()
    worker.begin_save(str(folder(tmp_path / "snapshot")))
    train(worker, 2, range(1000, 5000))  # changes rows, makes some, evicts others
    assert finish(worker) == whole
    assert contents(tmp_path / "snapshot") == contents(tmp_path / "whole")
    assert finish(worker) == whole  # asked again, it says the same
    rows: dict[int, Any] = {}
    for part in (tmp_path / "snapshot").iterdir():
        tensors = load_file(part)
        rows |= dict(zip(map(int, tensors["user.ids"]), tensors["user.weights"], strict=True))
    assert sorted(rows) == sorted(map(int, ids[0]))
    np.testing.assert_array_equal(np.stack([rows[int(key)] for key in ids[0]]), before)
    worker.begin_save(str(folder(tmp_path / "later")))
    finish(worker)
    worker.save(str(folder(tmp_path / "later whole")))
    assert contents(tmp_path / "later") == contents(tmp_path / "later whole") != contents(tmp_path / "whole")


def test_a_trainer_whose_embedding_worker_is_elsewhere_saves_alike(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    worker = make_worker(tables=TABLES, servers=2)
    train(worker, 1, range(50))
    with served(worker, 1, lambda _: iter(())) as trainer:
        trainer.tables.begin_save(str(folder(tmp_path / "a")))
        saved = finish(trainer.tables)
        assert saved == worker.save(str(folder(tmp_path / "b")))
        assert contents(tmp_path / "a") == contents(tmp_path / "b")
        trainer.tables.give_up_save()
        with pytest.raises(_native.ServerError, match="server rank 0: FINISH_SAVE: NO_SAVE"):
            trainer.tables.finish_save()


def test_a_cut_with_batches_outstanding_is_refused(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker(tables=TABLES)
    ids, offsets = batch_of(TABLES, [np.arange(3), np.arange(3)])
    lookup = worker.lookup(1, ids, offsets, training=True)
    with pytest.raises(_native.ServerError, match="BEGIN_SAVE: BATCHES_OUTSTANDING"):
        worker.begin_save(str(tmp_path))
    worker.discard(lookup)
    with pytest.raises(_native.ServerError, match="FINISH_SAVE: NO_SAVE"):
        worker.finish_save()


def test_there_is_one_save_at_a_time(large: _native.EmbeddingWorker, tmp_path: Path) -> None:
    child = begin_and_stop(large, folder(tmp_path / "first"))
    assert large.finish_save() is None
    train(large, 2, range(10))  # the server goes on
    for attempt in (large.save, large.begin_save):
        with pytest.raises(_native.ServerError, match="SAVE_UNDER_WAY"):
            attempt(str(folder(tmp_path / attempt.__name__)))
        assert not contents(tmp_path / attempt.__name__)
        # A begin that is refused gives nothing up: that save is somebody's.
    child.resume()
    assert finish(large)[0]["name"] == "embedding-0.safetensors"
    large.begin_save(str(folder(tmp_path / "second")))
    finish(large)


def test_a_save_that_is_given_up_leaves_nothing(large: _native.EmbeddingWorker, tmp_path: Path) -> None:
    child = begin_and_stop(large, folder(tmp_path / "save"))
    large.give_up_save()
    assert not child.is_running()
    assert not contents(tmp_path / "save")
    large.save(str(tmp_path / "save"))


def test_a_killed_saver_is_an_error_and_the_next_save_works(
    large: _native.EmbeddingWorker, tmp_path: Path
) -> None:
    child = begin_and_stop(large, folder(tmp_path / "save"))
    child.send_signal(signal.SIGKILL)
    with pytest.raises(_native.ServerError, match=r"SAVE_FAILED: .*embedding-0.*signal 9") as caught:
        finish(large)
    assert isinstance(as_persia_error(caught.value), RankFailed)
    assert not contents(tmp_path / "save")
    large.begin_save(str(tmp_path / "save"))
    finish(large)
    assert list(contents(tmp_path / "save")) == ["embedding-0.safetensors"]


def test_where_one_server_fails_all_give_up(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker(tables=TABLES, servers=2)
    train(worker, 1, range(50))
    (folder(tmp_path / "save") / "embedding-1.safetensors").mkdir()  # a file cannot replace a folder
    worker.begin_save(str(tmp_path / "save"))
    with pytest.raises(_native.ServerError, match=r"server rank 1: FINISH_SAVE: IO_ERROR: .*embedding-1"):
        finish(worker)
    with pytest.raises(
        _native.ServerError, match=r"rank 0: FINISH_SAVE: NO_SAVE.*rank 1: FINISH_SAVE: IO_ERROR"
    ):
        worker.finish_save()
    assert not list((tmp_path / "save").glob("*.tmp"))


def test_servers_that_end_take_their_save_along(large: _native.EmbeddingWorker, tmp_path: Path) -> None:
    child = begin_and_stop(large, tmp_path)
    large.shutdown()
    assert not child.is_running()
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, sys, time
sys.path.insert(0, sys.argv[2])
import numpy as np
from reference import id_of, make_table
from persia_core import _native

table = make_table("t", 1, 64)
worker = _native.EmbeddingWorker(transport="in-process", servers=1, tables=[table], features=[0], trainer=0,
    trainers=1, staleness=1, combine=False, seed=1, timeout_s=20.0)
worker.configure()
ids = np.array([id_of(table, v) for v in range(20000)], dtype=np.uint64)
worker.discard(worker.lookup(0, [ids], [np.array([0, 20000], dtype=np.int64)], training=True))

def save():
    worker.begin_save(sys.argv[1])
    while (saved := worker.finish_save()) is None:
        time.sleep(0.005)
    return saved

resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
try:
    save()
except _native.ServerError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(save()[0]["rows"])
"""


def test_a_full_disk_is_an_error_and_the_next_save_works(tmp_path: Path) -> None:
    # The file size limit stands for the disk: the same way through write(2), with no file system of our own.
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    error, rows = result.stdout.splitlines()
    assert "server rank 0: FINISH_SAVE: NO_SPACE: " in error
    assert type(as_persia_error(_native.ServerError(error))) is DiskFull
    assert rows == "20000"
    assert [path.name for path in tmp_path.iterdir()] == ["embedding-0.safetensors"]


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import numpy as np
from test_background_save import TABLES, begin_and_stop, train
from persia_core import _native

worker = _native.EmbeddingWorker(transport="in-process", servers=1, tables=TABLES, features=[0, 1], trainer=0,
    trainers=1, staleness=1, combine=False, seed=1, timeout_s=20.0)
worker.configure()
train(worker, 1, range(100_000))
print(begin_and_stop(worker, Path(sys.argv[1])).pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_killed_server_leaves_no_saver(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert result.returncode == -signal.SIGKILL, result.stderr
    saver = int(result.stdout)
    deadline = time.monotonic() + DEADLINE_S
    while psutil.pid_exists(saver) and psutil.Process(saver).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
