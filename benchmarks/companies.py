"""Who is compared with whom: contestants that keep the same optimizer state, at one size of table."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from benchmarks.batches import Batch
from benchmarks.contestants import fbgemm, ours, plain, plain_torch
from benchmarks.contestants.table import Table
from benchmarks.harness import Contestant, Measure
from benchmarks.sizes import FEATURES, Size

OPEN_BYTES_PER_ROW = 24  # of index and what else a table holds beyond weights and state, at most
GRADIENT_SCALE = 0.01


class BatchPool:
    """Batches by distribution, of which a round takes its own, and one array of gradients for all."""

    def __init__(self, batches: dict[str, list[Batch]], dim: int, size: Size) -> None:
        self.batches = batches
        self.dim = dim
        self.size = size
        rng = np.random.default_rng(dim)
        self.gradients = GRADIENT_SCALE * rng.standard_normal((size.batch, dim), dtype=np.float32)

    def take(self, distribution: str, number: int) -> list[Batch]:
        """The batches of turn `number`, starting anew when all have been taken."""
        all_of = self.batches[distribution]
        start = number * self.size.per_sample % len(all_of)
        return all_of[start : start + self.size.per_sample]


def left_out() -> list[str]:
    """Why some contestant does not take part, one line each."""
    reason = fbgemm.missing()
    return [f"left out: {reason}"] if reason else []


def companies(rows: int, pool: BatchPool) -> dict[str, list[Contestant]]:
    """By the name of what they have in common."""
    dim, batch = pool.dim, pool.size.batch

    def contestant(
        name: str, state: int, open_table: Callable[[], AbstractContextManager[Table]]
    ) -> Contestant:
        held = rows * (4 * (dim + state) + OPEN_BYTES_PER_ROW)
        return Contestant(name, held, lambda: _measured(open_table(), pool))

    def store(name: str, rowwise: bool, threads: int) -> Contestant:
        return contestant(
            name, 1 if rowwise else dim, lambda: ours.open_table(rows, dim, rowwise, batch, threads)
        )

    def peer(name: str, threads: int, features: int) -> Contestant:
        return contestant(name, 1, lambda: fbgemm.open_table(rows, dim, batch, threads, features))

    # Companies are small: what memory holds at once is measured in many short rounds side by side.
    by_name = {
        "elementwise": [
            store("ours", False, 1),
            contestant("reference", dim, lambda: plain.open_reference(rows, dim, batch)),
        ],
        "limit": [
            store("ours", False, 1),
            contestant("limit", dim, lambda: plain.open_limit(rows, dim)),
        ],
        "torch": [
            store("ours", False, 1),
            contestant("torch", dim, lambda: plain_torch.open_table(rows, dim, 1)),
        ],
    }
    if not fbgemm.missing():
        by_name["row-wise"] = [store("ours", True, 1), peer("fbgemm", 1, FEATURES)]
        by_name["row-wise, one feature"] = [store("ours", True, 1), peer("fbgemm, one feature", 1, 1)]
        by_name["row-wise, 2 threads"] = [
            store("ours, 2 threads", True, 2),
            peer("fbgemm, one feature, 2 threads", 2, 1),
        ]
    return by_name


@contextmanager
def _measured(opening: AbstractContextManager[Table], pool: BatchPool) -> Iterator[Measure]:
    with opening as table:
        for batches in pool.batches.values():
            table.step(batches[0], pool.gradients)  # whatever is made at the first call

        def measure(number: int) -> dict[str, float]:
            speeds: dict[str, float] = {}
            for distribution in pool.batches:
                looked_up = pool.take(distribution, 2 * number)
                start = time.perf_counter()
                for batch in looked_up:
                    table.lookup(batch)
                speeds[f"{distribution} lookup"] = _mrows(looked_up, start)
                stepped = pool.take(distribution, 2 * number + 1)
                start = time.perf_counter()
                for batch in stepped:
                    table.step(batch, pool.gradients)
                speeds[f"{distribution} lookup+update"] = _mrows(stepped, start)
            return speeds

        yield measure


def _mrows(batches: list[Batch], start: float) -> float:
    return sum(len(batch.ids) for batch in batches) / (time.perf_counter() - start) / 1e6
