"""Lookups ahead of their use and gradients behind it, with bounded staleness.

A permit is taken before a batch's lookup is sent and given back when the servers have acknowledged
its update or discard. There is no other path, so at most `staleness` batches of a trainer stand
between "rows read" and "gradients applied" (PERSIA, arXiv 2111.05897, section 3). With one permit
the next lookup waits for the acknowledgement: nothing is stale.

Neither lookups nor updates wait for the one before: as many are on their way at once as there are
permits, so that a network between trainer and servers costs a batch no time as long as there is
another one to work on. What is sent and what is collected keeps its order.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from persia_core._native import EmbeddingWorker, Lookup, PendingLookup, PendingReturn
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

    Two threads read and look up: one asks for rows, one collects them. Two give back: one sends gradients,
    one collects acknowledgements. An error in any is raised to the caller at its next call; the replies to
    what has been sent by then are still collected. Use as a context manager: leaving it ends the threads.
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
        self._asked: queue.Queue[tuple[Batch, PendingLookup] | None] = queue.Queue()
        self._ready: queue.Queue[Ready[Batch] | None] = queue.Queue()
        self._returned: queue.Queue[Callable[[], PendingReturn] | None] = queue.Queue()
        self._sent: queue.Queue[PendingReturn | None] = queue.Queue()
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._unacknowledged = 0  # updates and discards that are queued or under way
        self._outstanding = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(target,), name=f"embedding-{name}", daemon=True)
            for target, name in (
                (self._ask, "ask"),
                (self._collect, "collect"),
                (self._send, "send"),
                (self._acknowledge, "acknowledge"),
            )
        ]

    def __enter__(self) -> "EmbeddingPipeline[Batch]":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._returned.put(None)
        self._permits.release()  # wakes a thread that waits for a permit
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
        self._give_back(lambda: self._worker.begin_update(lookup, gradients, scale, learning_rate_factors))

    def discard(self, ready: Ready[Batch]) -> None:
        """Give a batch back without an update (it was skipped)."""
        self._give_back(lambda: self._worker.begin_discard(cast(Lookup, ready.lookup)))

    @property
    def outstanding(self) -> int:
        """Batches between the permit for their lookup and the acknowledgement of what they gave back."""
        return self._outstanding

    def drain(self) -> None:
        """Wait until everything given back has been acknowledged by the servers."""
        with self._changed:
            self._changed.wait_for(lambda: self._unacknowledged == 0 or self._error is not None)
        self._raise()

    def _give_back(self, send: Callable[[], PendingReturn]) -> None:
        self._raise()
        with self._changed:
            self._unacknowledged += 1
        self._returned.put(send)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        """Carry an error over to the caller's thread; the first one counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
        self._stop.set()
        self._ready.put(None)

    def _run(self, target: Callable[[], None]) -> None:
        try:
            run_at(self._priority)
        except OSError as error:
            self._fail(error)
        target()

    def _ask(self) -> None:
        try:
            for batch in self._batches:
                self._permits.acquire()
                with self._changed:
                    self._outstanding += 1
                if self._stop.is_set():
                    return
                data = batch.data
                pending = self._worker.begin_lookup(self._next, data.ids, data.offsets, True)
                self._next += 1
                self._asked.put((batch, pending))
        except BaseException as error:
            self._fail(error)
        finally:
            self._asked.put(None)

    def _collect(self) -> None:
        while (asked := self._asked.get()) is not None:
            batch, pending = asked
            try:
                self._ready.put(Ready(batch, self._worker.finish_lookup(pending)))
            except BaseException as error:
                self._fail(error)  # and go on: no reply may be left for a later request to find
        self._ready.put(None)

    def _send(self) -> None:
        try:
            while (send := self._returned.get()) is not None:
                self._sent.put(send())
        except BaseException as error:
            self._fail(error)
        finally:
            self._sent.put(None)

    def _acknowledge(self) -> None:
        while (pending := self._sent.get()) is not None:
            try:
                self._worker.finish_return(pending)
            except BaseException as error:
                self._fail(error)
                continue
            with self._changed:
                self._unacknowledged -= 1
                self._outstanding -= 1
                self._changed.notify_all()
            self._permits.release()
