"""A trainer rank of test_mpi_under_way.py: a pipeline with several requests on their way to two servers."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from mpi_job import many_of_server_0
from prefixes import Numbered, Prefixes, numbered
from reference import make_table

from persia_core import _native
from persia_core.embedding.pipeline import EmbeddingPipeline

SERVERS, STALENESS, STEPS, SEED = 2, 4, 16, 9
LARGE_STEP = 8  # of trainer 0: a frame of several MPI messages, with others behind it
DELAYS_S = [0.0, 0.003]  # of each trainer
TABLES = [make_table("small", 1, 4), make_table("wide", 2, 1024)]


def batch_of_step(trainer: int, step: int) -> Numbered:
    """Trainers have different ids: the order in which the servers hear them does not matter."""
    rng = np.random.default_rng(1000 * trainer + step)
    values = [rng.integers(0, 30, 60) + trainer * 1_000_000 for _ in TABLES]
    if trainer == 0 and step == LARGE_STEP:
        values[1] = many_of_server_0(TABLES[1])
    return numbered(TABLES, step, values)


def main(directory: Path) -> None:
    world = MPI.COMM_WORLD
    trainer = world.Get_rank() - SERVERS
    peers = world.Create_group(world.Get_group().Excl(list(range(SERVERS))))
    worker = _native.EmbeddingWorker(
        transport="mpi", servers=SERVERS, tables=TABLES, features=[0, 1], trainer=trainer,
        trainers=peers.Get_size(), staleness=STALENESS, combine=False, seed=SEED, timeout_s=60.0,
        delay_s=DELAYS_S[trainer],
    )  # fmt: skip
    if trainer == 0:
        worker.configure()
    peers.barrier()
    oracle = Prefixes(TABLES, SEED, SERVERS, STALENESS)
    rng = np.random.default_rng(trainer)
    held: list[Any] = []
    batches = (batch_of_step(trainer, step) for step in range(STEPS))
    with EmbeddingPipeline(worker, batches, STALENESS) as pipeline:

        def give_back() -> None:
            ready = held.pop(0)
            if ready.batch.number == LARGE_STEP:
                oracle.give_back(ready.batch, None, 0.5)
                pipeline.discard(ready)
                return
            gradients = [rng.standard_normal(each.shape).astype(np.float32) for each in ready.lookup.pooled]
            oracle.give_back(ready.batch, gradients, 0.5)
            pipeline.update(ready, gradients, 0.5)

        for ready in pipeline:
            oracle.check(ready.batch, ready.lookup.pooled)
            held.append(ready)
            while held and (len(held) == STALENESS or rng.random() < 0.5):
                give_back()
        while held:
            give_back()
        pipeline.drain()
    every = numbered(TABLES, 0, [np.arange(30) + trainer * 1_000_000] * 2).data
    found = worker.lookup(0, every.ids, every.offsets, training=False).pooled
    for table, ids, offsets, rows in zip(oracle.states[-1], every.ids, every.offsets, found, strict=True):
        np.testing.assert_array_equal(rows, table.pool(ids, offsets, create=False))
    peers.barrier()
    if trainer == 0:
        (directory / "stats.json").write_text(json.dumps(worker.stats()))
        worker.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
