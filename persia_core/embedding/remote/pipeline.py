"""The trainer's end of a pipeline whose lookups and updates are made by an embedding worker elsewhere.

The permits are the worker's (EmbeddingPipeline): it takes one before it looks a batch up, and has it back
when the servers have acknowledged the update. So at most `staleness` batches are on the way or here.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from persia_core.embedding.interface import Ready
from persia_core.embedding.remote.carried_errors import carried_error
from persia_core.embedding.remote.line import Line, hung
from persia_core.embedding.remote.masks import without_masks
from persia_core.embedding.remote.message import Message

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class RemoteLookup:
    """What has come of a lookup, and the number to give it back by; see LookedUp."""

    batch: int
    pooled: list[NDArray[np.float32]]
    masks: list[NDArray[np.bool_] | None]
    truncated_ids: int


@dataclass(frozen=True)
class Waits:
    """How long a trainer waits, in seconds: for a message to be taken, a batch, an end of all updates."""

    send: float
    batch: float  # that is due: there are permits, and the worker had them for so long
    drain: float
    forever: float  # nothing is due, but the job has an end
    permits: int

    @staticmethod
    def of(timeout_s: float, staleness: int, job_timeout_s: float) -> "Waits":
        """From the time limit of one request to a server: the worker's own error is to come first.

        For a batch the worker waits for an update and a lookup, to drain for `staleness` updates.
        """
        return Waits(
            2 * timeout_s, 3 * timeout_s, (staleness + 2) * timeout_s, job_timeout_s, permits=staleness
        )


class RemotePipeline(Generic[Batch]):
    """Batches from, and gradients to, an embedding worker; see persia_core.embedding.interface.Pipeline."""

    def __init__(
        self,
        start: Callable[[], None],
        line: Line,
        decode: Callable[[Message], tuple[Batch, list[NDArray[np.float32]]]],
        waits: Waits,
    ) -> None:
        """`start` makes the worker begin; `decode` takes a batch and its activations out of a message."""
        self._start = start
        self._line = line
        self._decode = decode
        self._waits = waits
        self._ready: queue.Queue[Ready[Batch] | None] = queue.Queue()
        self._outgoing: queue.Queue[Message | None] = queue.Queue()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._drained = False
        self._here = 0  # batches that have come and were not given back
        self._given_back_at = 0.0
        self._given_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(target,), name=name, daemon=True)
            for target, name in ((self._receive, "embedding-receive"), (self._send, "embedding-send"))
        ]

    def __enter__(self) -> "RemotePipeline[Batch]":
        self._start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._outgoing.put(Message("stop"))
        self._outgoing.put(None)
        receiving, sending = self._threads
        sending.join()
        receiving.join(timeout=self._waits.drain)
        if receiving.is_alive():
            self._give_up(hung(self._line.peer, "the end of the batches", self._waits.drain))
        receiving.join()
        self._ready.put(None)  # whoever takes batches in another thread ends too
        if kind is None and self._given_up.is_set():
            self._raise()

    def __iter__(self) -> Iterator[Ready[Batch]]:
        while True:
            ready = self._next()
            self._raise()
            if ready is None:
                return
            yield ready

    def _next(self) -> Ready[Batch] | None:
        """Batches may be asked for ahead: while all permits are used here, none is due."""
        since, limit = time.monotonic(), self._waits.batch
        while True:
            left = max(since, self._given_back_at) + limit - time.monotonic()
            if left <= 0 and self._here < self._waits.permits:
                self._give_up(hung(self._line.peer, "the next batch", limit))
                return None
            try:
                return self._ready.get(timeout=left if left > 0 else limit)
            except queue.Empty:
                continue

    def update(
        self,
        ready: Ready[Batch],
        gradients: list[NDArray[np.float32]],
        scale: float,
        learning_rate_factors: list[float] | None = None,
    ) -> None:
        """See Pipeline. A gradient that is not C-contiguous is copied, others are sent as they lie."""
        fields = {"batch": ready.lookup.batch, "scale": scale, "factors": learning_rate_factors}
        self._give_back(Message("update", fields, [np.ascontiguousarray(each) for each in gradients]))

    def discard(self, ready: Ready[Batch]) -> None:
        self._give_back(Message("discard", {"batch": ready.lookup.batch}))

    @property
    def outstanding(self) -> int:
        """Batches that have come and were not given back; the worker's own count is higher."""
        return self._here

    def drain(self) -> None:
        self._drained = False
        self._put(Message("drain"))
        with self._changed:
            done = self._changed.wait_for(lambda: self._drained or self._error is not None, self._waits.drain)
        if not done:
            self._give_up(hung(self._line.peer, "the acknowledgement of updates", self._waits.drain))
        self._raise()

    def _give_back(self, message: Message) -> None:
        self._put(message)
        with self._changed:
            self._here -= 1
            self._given_back_at = time.monotonic()

    def _put(self, message: Message) -> None:
        self._raise()
        self._outgoing.put(message)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _give_up(self, error: BaseException) -> None:
        """Nothing more can be expected of the line: do not wait for it."""
        self._fail(error)
        self._given_up.set()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
        self._ready.put(None)

    def _guard(self, target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:  # carried over to the caller's thread
            self._give_up(error)

    def _receive(self) -> None:
        """Takes what the worker sends until it says that it has stopped: it may have more on the way."""
        while True:
            message = self._line.receive("batches", self._waits.forever, self._given_up)
            match message.kind:
                case "ready":
                    message, masks = without_masks(message)
                    batch, pooled = self._decode(message)
                    lookup = RemoteLookup(
                        message.fields["batch"],
                        pooled,
                        [masks.get(feature) for feature in range(len(pooled))],
                        message.fields["truncated_ids"],
                    )
                    with self._changed:
                        self._here += 1
                    self._ready.put(Ready(batch, lookup))
                case "end":
                    self._ready.put(None)
                case "drained":
                    with self._changed:
                        self._drained = True
                        self._changed.notify_all()
                case "error":
                    self._fail(carried_error(message.fields, self._line.peer))
                case "stopped":
                    return
                case other:
                    raise RuntimeError(f"{self._line.peer} sent {other!r}, which means nothing here")

    def _send(self) -> None:
        while (message := self._outgoing.get()) is not None:
            self._line.send(message, self._waits.send)
