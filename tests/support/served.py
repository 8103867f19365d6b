"""A trainer and the service of its embedding worker, in two threads of one process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persia_core import _native
from persia_core.data.batch import HashedBatch
from persia_core.embedding.remote.line import Line
from persia_core.embedding.remote.message import Message
from persia_core.embedding.remote.pipeline import RemotePipeline, Waits
from persia_core.embedding.remote.service import TrainerService
from persia_core.embedding.remote.tables import RemoteTables
from tests.support.queue_line import QueueLine

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Numbered:
    """A batch that knows its place."""

    number: int
    data: HashedBatch


def encode(batch: Numbered, pooled: list[NDArray[np.float32]]) -> Message:
    return Message("ready", {"number": batch.number}, [batch.data.labels, batch.data.dense, *pooled])


def decode(message: Message) -> tuple[Numbered, list[NDArray[np.float32]]]:
    labels, dense, *pooled = message.arrays
    return Numbered(message.fields["number"], HashedBatch(labels, dense, [], [])), pooled


@dataclass(frozen=True)
class Trainer:
    """The trainer's end."""

    tables: RemoteTables
    batches: Line
    staleness: int

    def pipeline(self, timeout_s: float = TIMEOUT_S) -> RemotePipeline[Numbered]:
        def start() -> None:
            self.tables.call(Message("train"))

        return RemotePipeline(start, self.batches, decode, Waits.of(timeout_s, self.staleness, 60.0))


@contextmanager
def served(
    worker: _native.EmbeddingWorker,
    staleness: int,
    source: Callable[[dict[str, Any]], Iterator[Numbered]],
) -> Iterator[Trainer]:
    """A trainer whose embedding worker is `worker`; at the end it leaves, and the service must have ended."""
    control, control_there = QueueLine.pair("trainer 0", "embedding worker 0")
    batches, batches_there = QueueLine.pair("trainer 0", "embedding worker 0")
    service = TrainerService(
        worker, control_there, batches_there, source, encode, staleness, TIMEOUT_S, longest_wait_s=60.0
    )
    thread = threading.Thread(target=service.run)
    thread.start()
    tables = RemoteTables(control, TIMEOUT_S)
    try:
        yield Trainer(tables, batches, staleness)
    finally:
        tables.close()
        thread.join(timeout=60)
        assert not thread.is_alive(), "the service did not end with its trainer"
