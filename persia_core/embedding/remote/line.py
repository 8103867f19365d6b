"""How messages travel between one trainer and its embedding worker."""

import threading
from typing import Protocol

from persia_core.embedding.remote.message import Message
from persia_core.errors import RankHung


class LineClosed(Exception):
    """`receive` was told to wait no longer."""


class Line(Protocol):
    """Messages to and from one peer, in order. Several threads may send; one receives."""

    @property
    def peer(self) -> str:
        """Who is at the other end, with its rank, for errors."""

    def send(self, message: Message, timeout_s: float) -> None:
        """Send a message; its arrays may be changed afterwards. RankHung if the peer takes it too late."""

    def receive(self, what: str, timeout_s: float, closed: threading.Event | None = None) -> Message:
        """The next message. RankHung names `what` was waited for; LineClosed once `closed` is set."""


def hung(peer: str, what: str, timeout_s: float) -> RankHung:
    """The error of a peer that has not done its part of `what` in time."""
    return RankHung(
        f"{peer}: {what}: no answer within {timeout_s:g} s",
        "look for the log of that rank; raise cluster.timeout_s if it was only slow",
    )
