"""What an embedding worker does for one trainer: the other end of RemoteTables and RemotePipeline."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from persia_core._native import EmbeddingWorker
from persia_core.embedding.interface import Ready
from persia_core.embedding.pipeline import Batch, EmbeddingPipeline
from persia_core.embedding.remote.carried_errors import error_fields
from persia_core.embedding.remote.line import Line, LineClosed
from persia_core.embedding.remote.masks import with_masks
from persia_core.embedding.remote.message import Message

log = logging.getLogger(__name__)


class TrainerService(Generic[Batch]):
    """Serves one trainer until it leaves.

    An error of a request, a lookup or an update is the trainer's: it is sent there, and the trainer decides.
    A trainer that does not take what is sent to it ends the service (RankHung).
    """

    def __init__(
        self,
        worker: EmbeddingWorker,
        control: Line,
        batches: Line,
        source: Callable[[dict[str, Any]], Iterator[Batch]],
        encode: Callable[[Batch, list[NDArray[np.float32]]], Message],
        staleness: int,
        timeout_s: float,
        longest_wait_s: float,
    ) -> None:
        """`source` makes the batches that a request to train asks for; `encode` is what is sent of one.

        The trainer has `timeout_s` to take a message, and may ask for nothing for `longest_wait_s`.
        """
        self._worker = worker
        self._control = control
        self._batches = batches
        self._source = source
        self._encode = encode
        self._staleness = staleness
        self._timeout_s = timeout_s
        self._longest_wait_s = longest_wait_s
        self._held: dict[int, Ready[Batch]] = {}
        self._stopping = threading.Event()
        self._failed = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Answer requests one after the other, until the trainer leaves."""
        while True:
            request = self._control.receive("a request", self._longest_wait_s)
            if request.kind == "train":
                self._train(request.fields)
                continue
            self._reply_to(request)
            if request.kind == "leave":
                return

    def _reply_to(self, request: Message) -> None:
        try:
            reply = self._answer(request)
        except Exception as error:
            reply = Message("error", error_fields(error))
        self._control.send(reply, self._timeout_s)

    def _answer(self, request: Message) -> Message:
        fields = request.fields
        match request.kind:
            case "configure":
                self._worker.configure()
            case "load":
                return Message("done", {"result": self._worker.load(fields["paths"])})
            case "advance_day":
                self._worker.advance_day(fields["day"])
            case "save":
                return Message("done", {"result": self._worker.save(fields["directory"])})
            case "begin_save":
                self._worker.begin_save(fields["directory"], fields["kind"], fields["cut"])
            case "finish_save":
                return Message("done", {"result": self._worker.finish_save()})
            case "give_up_save":
                self._worker.give_up_save()
            case "stats":
                return Message("done", {"result": self._worker.stats()})
            case "shutdown":
                self._worker.shutdown()
            case "read":
                features = len(request.arrays) // 2
                lookup = self._worker.lookup(0, request.arrays[:features], request.arrays[features:], False)
                return with_masks(Message("done", arrays=list(lookup.pooled)), lookup.masks)
            case "leave":
                pass
            case other:
                raise ValueError(f"{self._control.peer} asked for {other!r}, which means nothing here")
        return Message("done")

    def _train(self, fields: dict[str, Any]) -> None:
        try:
            batches = self._source(fields)
        except Exception as error:
            self._control.send(Message("error", error_fields(error)), self._timeout_s)
            return
        self._control.send(Message("done"), self._timeout_s)
        self._stopping.clear()
        first = int(fields.get("start", 0))  # batches have the numbers of their steps
        with EmbeddingPipeline(self._worker, batches, self._staleness, first) as pipeline:
            forwarding = threading.Thread(target=self._forward, args=(pipeline,), name="embedding-forward")
            asking = threading.Thread(target=self._answer_meanwhile, name="embedding-control")
            forwarding.start()
            asking.start()
            try:
                self._take_back(pipeline)
            except LineClosed:
                pass
            finally:
                self._stopping.set()
        forwarding.join()
        asking.join()
        self._held.clear()
        if self._failure is not None:
            raise self._failure
        self._batches.send(Message("stopped"), self._timeout_s)

    def _answer_meanwhile(self) -> None:
        """Requests that come while batches are under way: how far a save is that was begun before."""
        try:
            while True:
                self._reply_to(self._control.receive("a request", self._longest_wait_s, self._stopping))
        except LineClosed:
            return
        except Exception as error:
            self._failure = self._failure or error
            self._failed.set()

    def _forward(self, pipeline: EmbeddingPipeline[Batch]) -> None:
        """Sends batches as they become ready; the permits bound how many."""
        try:
            for ready in pipeline:
                if self._stopping.is_set():
                    return
                self._held[ready.lookup.batch] = ready
                lookup = ready.lookup
                message = with_masks(self._encode(ready.batch, lookup.pooled), lookup.masks)
                message.fields.update(batch=lookup.batch, truncated_ids=lookup.truncated_ids)
                self._send(message)
            self._send(Message("end"))
        except Exception as error:
            self._report(error)

    def _take_back(self, pipeline: EmbeddingPipeline[Batch]) -> None:
        """Hands on gradients as they come, until the trainer has enough."""
        while True:
            message = self._batches.receive("gradients", self._longest_wait_s, self._failed)
            try:
                match message.kind:
                    case "update":
                        ready = self._held.pop(message.fields["batch"])
                        scale, factors = message.fields["scale"], message.fields["factors"]
                        pipeline.update(ready, message.arrays, scale, factors)
                    case "discard":
                        pipeline.discard(self._held.pop(message.fields["batch"]))
                    case "drain":
                        pipeline.drain()
                        self._send(Message("drained"))
                    case "stop":
                        return
                    case other:
                        raise ValueError(f"{self._batches.peer} sent {other!r}, which means nothing here")
            except Exception as error:
                self._report(error)

    def _send(self, message: Message) -> None:
        """A line that fails once has failed for good: the service ends with the first such error."""
        try:
            self._batches.send(message, self._timeout_s)
        except Exception as error:
            self._failure = self._failure or error
            self._failed.set()

    def _report(self, error: Exception) -> None:
        log.info("%s: %s: %s", self._batches.peer, type(error).__name__, error)
        self._send(Message("error", error_fields(error)))
