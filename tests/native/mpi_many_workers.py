"""The one Python rank of test_many_workers_of_one_rank: a worker for each of three trainers, in mode sync."""

import json
import sys
import threading
from pathlib import Path

import numpy as np
from reference import ReferenceTable, batch_of, make_table

from persia_core import _native

SERVERS, TRAINERS, STEPS = 2, 3, 20
TABLE = make_table("t", 1, 4)


def make_worker(trainer: int, number: int) -> _native.EmbeddingWorker:
    return _native.EmbeddingWorker(
        transport="mpi", servers=SERVERS, tables=[TABLE], features=[0], trainer=trainer, trainers=TRAINERS,
        staleness=1, combine=True, seed=9, timeout_s=30.0, number=number,
    )  # fmt: skip


def main(result: Path) -> None:
    workers = [make_worker(trainer, trainer) for trainer in range(TRAINERS)]
    workers[0].configure()
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (STEPS, TRAINERS, 5))
    gradients = rng.standard_normal((STEPS, TRAINERS, 5, 4)).astype(np.float32)
    failures: list[str] = []

    def train(trainer: int) -> None:
        try:
            for step in range(STEPS):
                ids, offsets = batch_of([TABLE], [values[step, trainer]])
                lookup = workers[trainer].lookup(step, ids, offsets, training=True)
                workers[trainer].update(lookup, [gradients[step, trainer]], 1.0)
        except Exception as error:
            failures.append(f"trainer {trainer}: {error}")

    threads = [threading.Thread(target=train, args=(trainer,)) for trainer in range(TRAINERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    oracle = ReferenceTable(TABLE, seed=9)
    for step in range(STEPS):
        bags = [batch_of([TABLE], [values[step, trainer]]) for trainer in range(TRAINERS)]
        for ids, offsets in bags:
            oracle.pool(ids[0], offsets[0], create=True)
        oracle.update(
            [(ids[0], offsets[0], gradients[step, t]) for t, (ids, offsets) in enumerate(bags)], 1.0
        )
    ids, offsets = batch_of([TABLE], [np.arange(9)])
    found = workers[1].lookup(0, ids, offsets, training=False).pooled[0]
    expected = oracle.pool(ids[0], offsets[0], create=False)

    beyond = "none"
    try:
        make_worker(0, TRAINERS).stats()
    except _native.ServerError as error:
        beyond = str(error)
    document = {
        "failures": failures, "found": found.tolist(), "expected": expected.tolist(), "beyond": beyond,
        "stats": workers[2].stats(),
    }  # fmt: skip
    result.write_text(json.dumps(document))
    workers[0].shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
