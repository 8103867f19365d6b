"""A trainer rank of test_mpi.py: two trainers and two servers, one run of everything."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from reference import ReferenceTable, batch_of, id_of, make_table

from persia_core import _native

SERVERS = 2
DELAYS_S = [0.0, 0.02]  # of each trainer


def many_of_server_0(table: dict[str, Any]) -> NDArray[np.int64]:
    """Values whose rows of 4 KiB are over 64 MiB in one reply: several MPI messages."""
    values: NDArray[np.int64] = np.arange(36_000)
    ids = np.array([id_of(table, int(v)) for v in values], dtype=np.uint64)
    mine: NDArray[np.int64] = values[_native.server_of(ids, SERVERS) == 0]
    return mine[:17_000]


def main(directory: Path) -> None:
    """Trains some batches, saves, and writes what it saw to `directory`."""
    world = MPI.COMM_WORLD
    trainer = world.Get_rank() - SERVERS
    trainers = world.Get_size() - SERVERS
    peers = world.Create_group(world.Get_group().Excl(list(range(SERVERS))))
    tables = [make_table("small", 1, 4), make_table("wide", 2, 1024)]
    worker = _native.EmbeddingWorker(
        transport="mpi",
        servers=SERVERS,
        tables=tables,
        features=[0, 1],
        trainer=trainer,
        trainers=trainers,
        staleness=2,
        combine=False,
        seed=9,
        timeout_s=60.0,
        delay_s=DELAYS_S[trainer],
    )
    if trainer == 0:
        worker.configure()
    peers.barrier()
    # Trainers touch different ids, so that the order in which the servers hear them does not matter.
    oracle = [ReferenceTable(table, seed=9) for table in tables]
    rng = np.random.default_rng(trainer)
    for step in range(5):
        values = [rng.integers(0, size, size) + trainer * 1_000_000 for size in (50, 30)]
        if step == 4 and trainer == 0:
            values[1] = many_of_server_0(tables[1])
        ids, offsets = batch_of(tables, values)
        start = time.monotonic()
        lookup = worker.lookup(step, ids, offsets, training=True)
        assert time.monotonic() - start >= DELAYS_S[trainer]
        gradients = []
        for f, table in enumerate(oracle):
            np.testing.assert_array_equal(lookup.pooled[f], table.pool(ids[f], offsets[f], create=True))
            gradients.append(rng.standard_normal(lookup.pooled[f].shape).astype(np.float32))
        worker.update(lookup, gradients, 0.5)
        for f, table in enumerate(oracle):
            table.update([(ids[f], offsets[f], gradients[f])], 0.5)
    peers.barrier()
    if trainer == 0:
        saved = worker.save(str(directory))
        (directory / "saved.json").write_text(json.dumps({"saved": saved, "stats": worker.stats()}))
    rows = {table.name: table.rows for table in oracle}
    for name, content in rows.items():
        ids_of = np.array(sorted(content), dtype=np.uint64)
        np.savez(
            directory / f"{name}-{trainer}.npz", ids=ids_of, weights=np.stack([content[i] for i in ids_of])
        )
    peers.barrier()
    if trainer == 0:
        worker.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
