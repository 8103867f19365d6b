"""A line over MPI_COMM_WORLD. No call blocks inside MPI, where waiting burns a core."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from persia_core.embedding.remote.line import LineClosed, hung
from persia_core.embedding.remote.message import MAX_HEAD_BYTES, Buffer, Message, MessageError
from persia_core.errors import RankHung

# Requests to servers have tags from 7100 on (docs/formats/wire.md), but never between two Python ranks.
CONTROL_TAG: Final = 5100
BATCHES_TAG: Final = 5101
CHUNK_BYTES: Final = 64 << 20  # MPI counts are int

_SPIN_S: Final = 200e-6
_SLEEP_S: Final = 100e-6
_LONG_SLEEP_S: Final = 1e-3  # where nothing has come for a second


class MpiLine:
    """Messages to and from `rank` under `tag`, of which this process has one line."""

    def __init__(self, rank: int, tag: int, peer: str) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._rank, self._tag = rank, tag
        self._peer = f"{peer} (rank {rank})"
        self._posting = threading.Lock()
        self._left_to_mpi: list[object] = []  # what MPI may still read or write after a timeout

    @property
    def peer(self) -> str:
        return self._peer

    def send(self, message: Message, timeout_s: float) -> None:
        head = message.head()
        if head.size > MAX_HEAD_BYTES:
            raise MessageError(f"{message.kind}: a head of {head.size} bytes is too large")
        pieces = [head, *(piece for each in message.contents() for piece in _chunks(each))]
        with self._posting:  # the pieces of two messages must not mix
            requests = [
                self._mpi.COMM_WORLD.Isend([piece, self._mpi.BYTE], self._rank, self._tag) for piece in pieces
            ]
        try:
            self._wait(lambda: bool(self._mpi.Request.Testall(requests)), message.kind, timeout_s)
        except RankHung:
            self._left_to_mpi += [pieces, requests]
            raise

    def receive(self, what: str, timeout_s: float, closed: threading.Event | None = None) -> Message:
        head = self._take(None, what, timeout_s, closed)
        message = Message.from_head(head.tobytes())
        for buffer in message.contents():
            for piece in _chunks(buffer):
                self._take(piece, f"{what} ({message.kind})", timeout_s, closed)
        return message

    def _take(
        self, into: Buffer | None, what: str, timeout_s: float, closed: threading.Event | None
    ) -> Buffer:
        """One MPI message, in a buffer of its own or in `into`, whose size it must have."""
        status = self._mpi.Status()
        matched: list[Any] = []

        def found() -> bool:
            message = self._mpi.COMM_WORLD.Improbe(self._rank, self._tag, status)
            if message is not None:
                matched.append(message)
            return message is not None

        self._wait(found, what, timeout_s, closed)
        size = status.Get_count(self._mpi.BYTE)
        if into is None:
            if size > MAX_HEAD_BYTES:
                raise MessageError(f"{self._peer} sent a head of {size} bytes")
            into = np.empty(size, np.uint8)
        elif size != into.size:
            raise MessageError(f"{self._peer} sent {size} bytes where {into.size} were due")
        request = matched[0].Irecv([into, self._mpi.BYTE])
        try:
            self._wait(request.Test, what, timeout_s, closed)
        except (RankHung, LineClosed):
            self._left_to_mpi += [into, request]
            raise
        return into

    def _wait(
        self,
        done: Callable[[], bool],
        what: str,
        timeout_s: float,
        closed: threading.Event | None = None,
    ) -> None:
        start = time.monotonic()
        while not done():
            waited = time.monotonic() - start
            if closed is not None and closed.is_set():
                raise LineClosed(what)
            if waited > timeout_s:
                raise hung(self._peer, what, timeout_s)
            if waited < _SPIN_S:
                time.sleep(0)
            else:
                time.sleep(_SLEEP_S if waited < 1 else _LONG_SLEEP_S)


def _chunks(buffer: Buffer) -> list[Buffer]:
    return [buffer[at : at + CHUNK_BYTES] for at in range(0, buffer.size, CHUNK_BYTES)]
