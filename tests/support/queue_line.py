"""A line between two threads of one process: every message goes through its bytes, as between ranks."""

import queue
import threading
import time

import numpy as np

from persia_core.embedding.remote.line import LineClosed, hung
from persia_core.embedding.remote.message import Message

Sent = tuple[bytes, list[bytes]]


class QueueLine:
    """One end; `pair` makes both."""

    def __init__(self, peer: str, incoming: "queue.Queue[Sent]", outgoing: "queue.Queue[Sent]") -> None:
        self.peer = peer
        self._incoming = incoming
        self._outgoing = outgoing

    @staticmethod
    def pair(first: str, second: str) -> "tuple[QueueLine, QueueLine]":
        """The ends of `first` and of `second`."""
        to_first: queue.Queue[Sent] = queue.Queue()
        to_second: queue.Queue[Sent] = queue.Queue()
        return QueueLine(second, to_first, to_second), QueueLine(first, to_second, to_first)

    def send(self, message: Message, timeout_s: float) -> None:
        self._outgoing.put((message.head().tobytes(), [each.tobytes() for each in message.contents()]))

    def receive(self, what: str, timeout_s: float, closed: threading.Event | None = None) -> Message:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                head, contents = self._incoming.get(timeout=0.01)
            except queue.Empty:
                if closed is not None and closed.is_set():
                    raise LineClosed(what) from None
                if time.monotonic() > deadline:
                    raise hung(self.peer, what, timeout_s) from None
                continue
            message = Message.from_head(head)
            for buffer, sent in zip(message.contents(), contents, strict=True):
                buffer[:] = np.frombuffer(sent, np.uint8)
            return message
