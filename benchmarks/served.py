"""The client rank of the served figure: one embedding worker, looking up ahead and sending gradients behind.

The path of a training step without the dense network: ids out, rows back, gradients out, acknowledged.
Started by benchmarks.jobs under mpiexec, beside one embedding server.
"""

import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.batches import ids_of, make_batches
from benchmarks.contestants.ours import SEED, table_of
from benchmarks.harness import QUIET_CORES, until_quiet
from benchmarks.sizes import FEATURES
from persia_core import _native
from persia_core.data.batch import HashedBatch
from persia_core.embedding.pipeline import EmbeddingPipeline

log = logging.getLogger("benchmarks.served")

DIM = 16
STALENESS = 4


@dataclass(frozen=True)
class _Batch:
    data: HashedBatch


def _batch(ids: NDArray[np.uint64], offsets: NDArray[np.int64]) -> _Batch:
    """FEATURES features of one id per sample."""
    samples = len(offsets) - 1
    features = [np.ascontiguousarray(part) for part in ids.reshape(FEATURES, samples)]
    nothing = np.zeros((samples, 0), np.float32)
    return _Batch(HashedBatch(nothing[:, :0].sum(1), nothing, features, [offsets] * FEATURES))


def _prefill(rows: int, samples: int, offsets: NDArray[np.int64]) -> Iterator[_Batch]:
    size = samples * FEATURES
    for start in range(0, rows, size):
        numbers = np.arange(start, start + size) % rows
        yield _batch(ids_of(numbers), offsets)


def main() -> None:
    """Fill the table, then measure rounds; writes what jobs.Outcome holds."""
    settings = json.loads(sys.argv[1])
    rows, samples, rounds = (int(settings[name]) for name in ("rows", "samples", "rounds"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    offsets = np.arange(samples + 1, dtype=np.int64)
    worker = _native.EmbeddingWorker(
        transport="mpi",
        servers=1,
        tables=[table_of(rows, DIM, rowwise=False)],
        features=[0] * FEATURES,
        trainer=0,
        trainers=1,
        staleness=STALENESS,
        combine=False,
        seed=SEED,
        timeout_s=120.0,
    )
    worker.configure()
    next_batch = 0
    log.info("served: filling %d rows", rows)
    with EmbeddingPipeline(worker, _prefill(rows, samples, offsets), STALENESS) as pipeline:
        for ready in pipeline:
            pipeline.discard(ready)
            next_batch += 1
        pipeline.drain()
    rng = np.random.default_rng(1)
    gradients = [0.01 * rng.standard_normal((samples, DIM), dtype=np.float32) for _ in range(FEATURES)]
    drawn = make_batches("zipf", rows, settings["batches"], samples * FEATURES, seed=rows)
    batches = [_batch(batch.ids, offsets) for batch in drawn]

    def turn(_: int) -> float:
        nonlocal next_batch
        start = time.perf_counter()
        with EmbeddingPipeline(worker, iter(batches), STALENESS, next_batch) as pipeline:
            for ready in pipeline:
                pipeline.update(ready, gradients, 1.0)
            pipeline.drain()
        next_batch += len(batches)
        return len(batches) * samples * FEATURES / (time.perf_counter() - start) / 1e6

    turns = []
    for number in range(rounds):
        turns.append(until_quiet(turn, settings["tries"], root=os.getppid()))  # mpiexec: the server counts
        log.info("served: round %d of %d: others used %.2f cores", number + 1, rounds, turns[-1].others_cores)
    worker.shutdown()
    worst = max(quiet.others_cores for quiet in turns)
    loud = f"served: others used up to {worst:.2f} cores during a round that was kept"
    outcome = {
        "figures": {f"served_mrows_per_s_dim{DIM}": statistics.median(quiet.result for quiet in turns)},
        "notes": [loud] if worst > QUIET_CORES else [],
        "samples": {
            "mrows_per_s": [quiet.result for quiet in turns],
            "others_cores": [quiet.others_cores for quiet in turns],
        },
    }
    Path(sys.argv[2]).write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
