"""Several threads in a server: the same rows, whatever their number; errors of a thread reach the client."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeWorker
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import id_of, make_table, mix64
from test_store import ACTIONS, OPTIMIZERS, SEED, Model, with_capacity

from persia_core import _native

THREADS = st.integers(1, 3)


class ShardedModel:
    """The oracle: a Model for each thread, with its share of the capacity."""

    def __init__(self, table: dict[str, Any], threads: int, capacity: int | None) -> None:
        self.shards = [Model(table, capacity) for _ in range(threads)]
        self.dim = table["dim"]

    def _positions(self, ids: list[int], shard: int) -> list[int]:
        return [i for i, key in enumerate(ids) if (mix64(key) >> 32) % len(self.shards) == shard]

    def lookup(self, ids: list[int], training: bool) -> NDArray[np.float64]:
        rows = np.zeros((len(ids), self.dim))
        for number, shard in enumerate(self.shards):
            mine = self._positions(ids, number)
            rows[mine] = shard.lookup([ids[i] for i in mine], training)
        return rows

    def update(self, ids: list[int], gradients: NDArray[np.float32]) -> None:
        for number, shard in enumerate(self.shards):
            mine = self._positions(ids, number)
            shard.update([ids[i] for i in mine], gradients[mine])


@settings(max_examples=150, deadline=None)
@given(
    actions=ACTIONS, threads=THREADS, capacity=st.none() | st.integers(1, 15),
    optimizer=st.sampled_from(OPTIMIZERS), sightings=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_history_agrees_with_a_dict_for_each_thread(
    actions: list[tuple[str, list[int]]], threads: int, capacity: int | None, optimizer: dict[str, Any],
    sightings: int, seed: int,
) -> None:  # fmt: skip
    admission = {"kind": "sightings", "count": sightings}
    table = with_capacity(capacity and capacity * threads, 3, optimizer, admission=admission)
    store = _native.Store(table, SEED, threads=threads)
    model, rng = ShardedModel(table, threads, capacity), np.random.default_rng(seed)
    everything = [id_of(table, v) for v in range(41)]
    for action, values in actions:
        keys = [id_of(table, v) for v in values]
        ids = np.array(keys, np.uint64)
        if action == "update":
            gradients = rng.standard_normal((len(keys), 3)).astype(np.float32)
            store.update(ids, gradients)
            model.update(keys, gradients)
        else:
            found = store.lookup(ids, action == "train")
            np.testing.assert_allclose(found, model.lookup(keys, action == "train"), rtol=1e-3, atol=1e-4)
        rows = store.lookup(np.array(everything, np.uint64), training=False)
        np.testing.assert_allclose(rows, model.lookup(everything, training=False), rtol=1e-3, atol=1e-4)
    stats = store.stats()
    for name, expected in (
        ("rows", sum(len(shard.rows) for shard in model.shards)),
        ("evicted", sum(shard.evicted for shard in model.shards)),
        ("updates_missing", sum(shard.missing_updates for shard in model.shards)),
    ):
        assert stats[name] == expected, name


TABLES = [
    make_table("user", 1, 3),
    make_table("tag", 2, 5, pooling="mean", weight_type="bfloat16"),
    make_table("item", 3, 2, admission={"kind": "sightings", "count": 2}, max_age_days=1),
]


def train(worker: _native.EmbeddingWorker, first: int, steps: int) -> None:
    """Batches with repeated ids; the same ones for the same step."""
    for step in range(first, first + steps):
        worker.advance_day(step // 5)
        rng = np.random.default_rng(step)
        values = [rng.integers(0, 300, 120) for _ in TABLES]
        ids = [
            np.array([id_of(table, int(v)) for v in each], np.uint64)
            for table, each in zip(TABLES, values, strict=True)
        ]
        offsets = [np.arange(0, 121, 4, dtype=np.int64)] * len(TABLES)
        lookup = worker.lookup(step, ids, offsets, training=True)
        gradients = [rng.standard_normal(pooled.shape).astype(np.float32) for pooled in lookup.pooled]
        worker.update(lookup, gradients, 0.5)


def parts(worker: _native.EmbeddingWorker, directory: Path) -> dict[str, bytes]:
    directory.mkdir()
    worker.save(str(directory))
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_checkpoints_do_not_depend_on_the_number_of_threads(make_worker: MakeWorker, tmp_path: Path) -> None:
    saved = []
    for threads in (1, 2, 3):
        worker = make_worker(tables=TABLES, servers=2, server_threads=threads)
        train(worker, 0, 20)
        for stats in worker.stats():
            assert stats["threads"] == threads
            assert stats["tables"]["item"]["expired"] > 10  # type: ignore[index]
            assert stats["tables"]["item"]["not_admitted"] > 10  # type: ignore[index]
        saved.append(parts(worker, tmp_path / str(threads)))
    assert saved[0] == saved[1] == saved[2]
    assert all(len(content) > 10_000 for content in saved[0].values())


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 1)])
def test_a_restore_to_another_number_of_threads_goes_on_as_if_never_stopped(
    make_worker: MakeWorker, tmp_path: Path, before: int, after: int
) -> None:
    stopped = make_worker(tables=TABLES, server_threads=before)
    train(stopped, 0, 10)
    parts(stopped, tmp_path / "cut")
    resumed = make_worker(tables=TABLES, server_threads=after)
    resumed.load([str(path) for path in (tmp_path / "cut").iterdir()])
    train(resumed, 10, 10)
    unbroken = make_worker(tables=TABLES)
    train(unbroken, 0, 20)
    assert parts(resumed, tmp_path / "resumed") == parts(unbroken, tmp_path / "unbroken")


def test_with_a_capacity_the_same_number_of_threads_gives_the_same_rows(
    make_worker: MakeWorker, tmp_path: Path
) -> None:
    tables = [dict(table, capacity_bytes=40 * (8 * int(str(table["dim"])) + 24)) for table in TABLES]
    saved = []
    for attempt in range(2):
        worker = make_worker(tables=tables, server_threads=3)
        train(worker, 0, 20)
        assert all(table["evicted"] > 100 for table in worker.stats()[0]["tables"].values())  # type: ignore[attr-defined]
        saved.append(parts(worker, tmp_path / str(attempt)))
    assert saved[0] == saved[1]


def test_a_capacity_that_gives_a_thread_no_row_is_refused(make_worker: MakeWorker) -> None:
    table = make_table("t", 1, 1, capacity_bytes=2 * (8 + 24))
    make_worker(tables=[table], server_threads=2)
    with pytest.raises(_native.ServerError, match="BAD_CONFIG: table t: capacity_bytes over 3 threads"):
        make_worker(tables=[table], server_threads=3)
    with pytest.raises(ValueError, match="threads must be from 1 to 256"):
        make_worker(tables=[table], server_threads=0)


OUT_OF_MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from reference import id_of, make_table
from persia_core import _native

table = make_table("t", 1, 1024, initializer={"kind": "zeros"})
worker = _native.EmbeddingWorker(transport="in-process", servers=1, tables=[table], features=[0], trainer=0,
    trainers=1, staleness=1, combine=False, seed=1, timeout_s=60.0, server_threads=2)
worker.configure()

def lookup(batch, count, first=0):
    ids = np.arange(count, dtype=np.uint64) + np.uint64(id_of(table, first))
    return worker.lookup(batch, [ids], [np.array([0, count], np.int64)], training=True)

worker.update(lookup(0, 100), [np.ones((1, 1024), np.float32)], 1.0)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
used = int(status["VmSize"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20), resource.RLIM_INFINITY))
batch, refused = 1, ""
while not refused:
    try:
        # Small beside the slabs of rows, which the threads allocate: so that those find no memory first.
        worker.discard(lookup(batch, 500, first=batch * 500))
    except _native.ServerError as error:
        refused = str(error)
    batch += 1
print(refused)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
worker.update(lookup(batch, 100), [np.ones((1, 1024), np.float32)], 1.0)
stats = worker.stats()[0]
print(stats["errors"], stats["tables"]["t"]["updates"])
"""


def test_a_thread_without_memory_is_an_error_and_the_server_goes_on() -> None:
    result = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    refused, counters = result.stdout.splitlines()
    assert refused.startswith("server rank 0: LOOKUP: OUT_OF_MEMORY")
    assert counters == "{'OUT_OF_MEMORY': 1} 200"
