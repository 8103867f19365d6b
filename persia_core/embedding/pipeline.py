"""Lookups ahead of their use and gradients behind it, with bounded staleness.

A permit is taken before a batch's lookup is sent and given back when the servers have acknowledged
its update or discard. There is no other path, so at most `staleness` batches of a trainer stand
between "rows read" and "gradients applied" (PERSIA, arXiv 2111.05897, section 3). With one permit
the next lookup waits for the acknowledgement: nothing is stale.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from persia_core._native import EmbeddingWorker, Lookup
from persia_core.data.batch import HashedBatch
from persia_core.embedding.interface import Ready
from persia_core.embedding.priority import Priority, run_at


class HasData(Protocol):
    """A batch that carries its arrays."""

    @property
    def data(self) -> HashedBatch: ...


Batch = TypeVar("Batch", bound=HasData)


class EmbeddingPipeline(Generic[Batch]):
    """Iterate to get batches with their activations; give each one back by `update` or `discard`.

    One thread reads and looks up, one sends gradients; an error in either is raised to the caller at
    its next call. Use as a context manager: leaving it ends both threads.
    """

    def __init__(
        self,
        worker: EmbeddingWorker,
        batches: Iterator[Batch],
        staleness: int,
        first_batch: int = 0,
        priority: Priority = "normal",
    ) -> None:
        self._worker = worker
        self._batches = batches
        self._next = first_batch
        self._priority = priority
        self._permits = threading.Semaphore(staleness)
        self._ready: queue.Queue[Ready[Batch] | None] = queue.Queue()
        self._returned: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._unacknowledged = 0  # updates and discards that are queued or under way
        self._outstanding = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(target,), name=name, daemon=True)
            for target, name in ((self._look_up, "embedding-lookup"), (self._apply, "embedding-update"))
        ]

    def __enter__(self) -> "EmbeddingPipeline[Batch]":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._returned.put(None)
        self._permits.release()  # wakes a lookup thread that waits for a permit
        for thread in self._threads:
            thread.join()
        self._ready.put(None)  # whoever takes batches in another thread ends too

    def __iter__(self) -> Iterator[Ready[Batch]]:
        while True:
            ready = self._ready.get()
            self._raise()
            if ready is None:
                return
            yield ready

    def update(
        self,
        ready: Ready[Batch],
        gradients: list[NDArray[np.float32]],
        scale: float,
        learning_rate_factors: list[float] | None = None,
    ) -> None:
        """Queue the pooled gradients of a batch, each float32 [rows, dim], to be applied times `scale`.

        The learning rate of each table is multiplied by its factor; None: all factors are 1.
        """
        lookup = cast(Lookup, ready.lookup)  # this pipeline's own
        self._give_back(lambda: self._worker.update(lookup, gradients, scale, learning_rate_factors))

    def discard(self, ready: Ready[Batch]) -> None:
        """Give a batch back without an update (it was skipped)."""
        self._give_back(lambda: self._worker.discard(cast(Lookup, ready.lookup)))

    @property
    def outstanding(self) -> int:
        """Batches between the permit for their lookup and the acknowledgement of what they gave back."""
        return self._outstanding

    def drain(self) -> None:
        """Wait until everything given back has been acknowledged by the servers."""
        with self._changed:
            self._changed.wait_for(lambda: self._unacknowledged == 0 or self._error is not None)
        self._raise()

    def _give_back(self, send: Callable[[], None]) -> None:
        self._raise()
        with self._changed:
            self._unacknowledged += 1
        self._returned.put(send)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _guard(self, target: Callable[[], None]) -> None:
        run_at(self._priority)
        try:
            target()
        except BaseException as error:  # carried over to the caller's thread
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()
            self._stop.set()
            self._ready.put(None)

    def _look_up(self) -> None:
        for batch in self._batches:
            self._permits.acquire()
            with self._changed:
                self._outstanding += 1
            if self._stop.is_set():
                return
            data = batch.data
            lookup = self._worker.lookup(self._next, data.ids, data.offsets, True)
            self._next += 1
            self._ready.put(Ready(batch, lookup))
        self._ready.put(None)

    def _apply(self) -> None:
        while (send := self._returned.get()) is not None:
            send()
            with self._changed:
                self._unacknowledged -= 1
                self._outstanding -= 1
                self._changed.notify_all()
            self._permits.release()
