"""A run goes on from a base and deltas on any number of servers and trainers as if it had never stopped."""

import contextlib
import json
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from persia_core import _native
from persia_core.checkpoint.cut_chain import embedding_paths
from persia_core.checkpoint.cuts import RunIdentity, newest_whole_cut
from persia_core.checkpoint.write import Contents
from persia_core.config import ModelConfig
from persia_core.embedding.tables import table_specs
from persia_core.launch.job import Job
from persia_core.training.cut_writer import CutWriter
from persia_core.training.order import SampleOrder
from tests.integration.test_oracle import every_kind
from tests.integration.test_training import changed

DS, HASHED = "2026-01-02", "a" * 64
COUNTS = (1, 2, 3, 4)
ORDER = SampleOrder(rows=300, batch=20, epochs=2, shuffle=True, seed=7)
CUTS, END = (6, 12, 18), 24
SEEN_BEFORE = 1000  # ids of each table, from the days before: most of them do not change between two cuts
CONFIG = every_kind("adagrad")
TABLES = table_specs(CONFIG)

COUNTED = {"taken": 0, "failed": 0, "deltas": 0, "compacted": 0, "not_compacted": 0}

Rows = dict[tuple[str, int], tuple[bytes, ...]]


def group(servers: int, trainers: int) -> list[_native.EmbeddingWorker]:
    """The workers of trainers that share servers, in this process."""
    name = f"in-process:{uuid.uuid4()}"
    workers = [
        _native.EmbeddingWorker(
            transport=name, servers=servers, tables=TABLES, features=list(range(len(TABLES))), trainer=t,
            trainers=trainers, staleness=1, combine=True, seed=3, timeout_s=60.0,
            server_threads=1 + servers % 2,
        )
        for t in range(trainers)
    ]  # fmt: skip
    workers[0].configure()
    return workers


def ids_of(values: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    prefixes = [int(str(table["prefix"])) << 56 for table in TABLES]
    return [values.astype(np.uint64) + np.uint64(prefix) for prefix in prefixes]


def apply(worker: _native.EmbeddingWorker, number: int, values: np.ndarray[Any, Any]) -> None:
    """Whole numbers as gradients: their sums are exact, in whichever order and by whomever they are added."""
    lookup = worker.lookup(number, ids_of(values), [np.arange(len(values) + 1)] * len(TABLES), training=True)
    gradient = (values * 7 % 5 - 2).astype(np.float32)
    worker.update(lookup, [np.repeat(gradient[:, None], p.shape[1], 1) for p in lookup.pooled], 1.0)


def train(workers: list[_native.EmbeddingWorker], start: int, stop: int) -> None:
    """Each trainer its contiguous share of every step, as the training loop takes them."""
    failures: list[BaseException] = []

    def run(trainer: int) -> None:
        try:
            for step in ORDER.between(start, stop):
                low, high = (len(step.rows) * t // len(workers) for t in (trainer, trainer + 1))
                apply(workers[trainer], step.number + 1, step.rows[low:high] * 7 % 2000)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(t,)) for t in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def begin(servers: int) -> list[_native.EmbeddingWorker]:
    workers = group(servers, 1)
    apply(workers[0], 0, np.arange(SEEN_BEFORE))
    return workers


def rows_of(paths: list[Path]) -> Rows:
    """What files hold by table and id, later ones over earlier ones: a dict, read by the plain package."""
    rows: Rows = {}
    for path in paths:
        tensors = load_file(path)
        for name in (table.name for table in CONFIG.tables):
            for id_ in tensors.get(f"{name}.removed_ids", ()):
                rows.pop((name, int(id_)), None)
            columns = [tensors[f"{name}.{end}"] for end in ("weights", "state")]
            for i, id_ in enumerate(tensors[f"{name}.ids"]):
                rows[name, int(id_)] = tuple(column[i].tobytes() for column in columns)
    return rows


def saved_by(worker: _native.EmbeddingWorker, directory: Path) -> list[Path]:
    directory.mkdir()
    return [directory / str(part["name"]) for part in worker.save(str(directory))]


def job_of(config: ModelConfig, run_dir: Path) -> Job:
    return Job(
        id="j", config=config.model_dump(mode="json"), ds=DS, run_dir=run_dir, partition_dir=run_dir,
        parent_dir=None, parent=None, hashed_digest=HASHED,
    )  # fmt: skip


def take(writer: CutWriter, step: int) -> None:
    model = nn.Linear(2, 1)
    contents = Contents(model, torch.optim.SGD(model.parameters(), lr=0.1), {"step": step})
    writer.settle()
    writer.take(step, contents, 1.0)


def cuts_taken(writer: CutWriter) -> dict[str, int]:
    return {
        key: count
        for key, count in writer.report().items()
        if key not in ("bytes", "pause_s", "longest_pause_s")
    }


def write_cuts(home: Path, servers: int) -> tuple[Path, list[Path]]:
    """A run with a base and two deltas, and the parts of a full save at the last of these cuts."""
    snapshot = servers % 2 == 0  # else training stands still until the cut is there
    rules = {"keep": 1, "base_every": 3, "snapshot": snapshot}
    config = changed(CONFIG, cluster={"servers": servers}, checkpoint=rules)
    run_dir = home / f"run on {servers}"
    workers = begin(servers)
    writer = CutWriter(config, job_of(config, run_dir), workers[0])
    for start, step in zip((0, *CUTS), CUTS, strict=False):
        train(workers, start, step)
        take(writer, step)
        assert snapshot or (run_dir / "cuts" / str(step) / "manifest.json").exists()
    writer.settle()
    assert cuts_taken(writer) == COUNTED | {"taken": 3, "deltas": 2}
    assert sorted(int(path.name) for path in (run_dir / "cuts").iterdir()) == list(CUTS), "keep is 1"
    return run_dir, saved_by(workers[0], home / f"full on {servers}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, list[Path]]]:
    """By the number of servers that wrote them."""
    home = tmp_path_factory.mktemp("cuts")
    return {servers: write_cuts(home, servers) for servers in COUNTS}


def test_a_delta_is_much_smaller_than_its_base(runs: dict[int, tuple[Path, list[Path]]]) -> None:
    for run_dir, _ in runs.values():
        files = [(run_dir / "cuts" / str(step)).glob("embedding-*") for step in CUTS]
        base, *deltas = (sum(path.stat().st_size for path in each) for each in files)
        assert all(4 * delta < base for delta in deltas)


def test_base_and_deltas_restored_to_any_servers_and_trainers_are_the_full_cut_and_go_on_alike(
    runs: dict[int, tuple[Path, list[Path]]], tmp_path: Path
) -> None:
    whole = begin(1)
    train(whole, 0, END)
    expected = rows_of(saved_by(whole[0], tmp_path / "whole"))
    for servers in COUNTS:
        for trainers in COUNTS:
            written_on = 1 + (servers + trainers) % len(COUNTS)  # every pair of servers occurs, too
            run_dir, full = runs[written_on]
            config = changed(CONFIG, cluster={"servers": servers})
            cut = newest_whole_cut(run_dir, RunIdentity.of(config, run_dir.name, DS, None, HASHED))
            assert cut is not None and cut.step == CUTS[-1]
            paths = embedding_paths(cut.directory)
            assert rows_of(paths) == rows_of(full)
            name = f"{written_on} to {servers} and {trainers}"
            restored, of_full = group(servers, trainers), group(servers, trainers)
            restored[0].load([str(path) for path in paths])
            of_full[0].load([str(path) for path in full])
            once = saved_by(restored[0], tmp_path / name)
            again = saved_by(of_full[0], tmp_path / f"{name} full")
            assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again], name
            train(restored, CUTS[-1], END)
            assert rows_of(saved_by(restored[0], tmp_path / f"{name} end")) == expected, name


@pytest.mark.parametrize("servers", [1, 3])
def test_a_chain_that_is_compacted_holds_the_same_and_goes_on(tmp_path: Path, servers: int) -> None:
    rules = {"keep": 1, "base_every": 3, "compact": True}
    config = changed(CONFIG, cluster={"servers": servers}, checkpoint=rules)
    run_dir, worker = tmp_path / "run", begin(servers)[0]
    writer = CutWriter(config, job_of(config, run_dir), worker)
    for step in range(1, 6):
        train([worker], step - 1, step)
        take(writer, step)
        writer.settle()
        if step == 4:
            full = saved_by(worker, tmp_path / "full")
            assert sorted(path.name for path in (run_dir / "cuts").iterdir()) == ["4"], "it needs no other"
            assert rows_of(embedding_paths(run_dir / "cuts" / "4")) == rows_of(full)
            again = group(servers, 1)[0]
            again.load([str(path) for path in embedding_paths(run_dir / "cuts" / "4")])
            for one, other in zip(full, saved_by(again, tmp_path / "again"), strict=True):
                assert one.read_bytes() == other.read_bytes()
    assert cuts_taken(writer) == COUNTED | {"taken": 5, "deltas": 3, "compacted": 1}
    assert follows_of(run_dir, 5) == [4]
    cut = newest_whole_cut(run_dir, RunIdentity.of(config, run_dir.name, DS, None, HASHED))
    assert cut is not None and cut.step == 5
    assert rows_of(embedding_paths(cut.directory)) == rows_of(saved_by(worker, tmp_path / "end"))


def test_where_compaction_fails_the_cut_stays_a_delta_and_a_base_of_the_servers_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = changed(CONFIG, checkpoint={"keep": 9, "base_every": 2, "compact": True})
    run_dir, worker = tmp_path / "run", begin(2)[0]
    writer = CutWriter(config, job_of(config, run_dir), worker)
    for step in (1, 2, 3, 4):
        train([worker], step - 1, step)
        if step == 3:
            part = run_dir / "cuts" / "1" / "embedding-0.safetensors"
            data = part.read_bytes()
            part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        take(writer, step)
        writer.settle()
    assert cuts_taken(writer) == COUNTED | {"taken": 4, "deltas": 2, "not_compacted": 1}
    assert f"the cut at step 3 is not compacted: {part}: " in caplog.text
    assert [follows_of(run_dir, step) for step in (1, 2, 3, 4)] == [[], [1], [1, 2], []]
    assert not list(run_dir.rglob(".base")) and not list(run_dir.rglob("*.tmp"))
    assert rows_of(embedding_paths(run_dir / "cuts" / "4")) == rows_of(saved_by(worker, tmp_path / "end"))


def follows_of(run_dir: Path, step: int) -> list[int] | None:
    """The steps of the cuts that the cut follows; None if there is no such cut."""
    path = run_dir / "cuts" / str(step) / "manifest.json"
    if not path.exists():
        return None
    return [link["step"] for link in json.loads(path.read_bytes())["details"]["follows"]]


def test_after_a_delta_whose_process_is_killed_comes_a_base(tmp_path: Path) -> None:
    config = changed(CONFIG, checkpoint={"keep": 1000, "base_every": 1000})
    worker, run_dir, values = group(2, 1)[0], tmp_path / "run", np.arange(30_000)
    writer, step = CutWriter(config, job_of(config, run_dir), worker), 0
    while writer.report()["failed"] == 0:
        step += 1
        assert step < 50, "no process that writes a delta could be killed"
        apply(worker, step, values)
        others = set(psutil.Process().children())  # such as a storage server that other tests use
        take(writer, step)
        if follows_of(run_dir, step - 1) == []:  # behind a base comes a delta
            for child in set(psutil.Process().children()) - others:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        writer.settle()
    assert follows_of(run_dir, step) is None and not (run_dir / "cuts" / str(step)).exists()
    take(writer, step + 1)
    writer.settle()
    assert follows_of(run_dir, step + 1) == []
    take(writer, step + 2)
    writer.settle()
    assert follows_of(run_dir, step + 2) == [step + 1]
    paths = embedding_paths(run_dir / "cuts" / str(step + 2))
    assert rows_of(paths) == rows_of(saved_by(worker, tmp_path / "full"))
