"""The calls that a trainer makes on its embedding worker between other stages of the run, one at a time."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persia_core.embedding.interface import Activations
from persia_core.embedding.remote.carried_errors import carried_error
from persia_core.embedding.remote.line import Line
from persia_core.embedding.remote.masks import without_masks
from persia_core.embedding.remote.message import Message

# Saving, loading and a new day may take this many times the timeout of other requests (docs/formats/wire.md).
_BULK_TIMEOUTS = 30


class RemoteTables:
    """The native worker's calls, made by an embedding worker in a rank of its own.

    Each raises what the native worker raises there, and RankHung if the embedding worker does not answer.
    Several threads may call.
    """

    def __init__(self, line: Line, timeout_s: float) -> None:
        self._line = line
        self._timeout_s = timeout_s
        self._one_at_a_time = threading.Lock()

    def configure(self) -> None:
        self.call(Message("configure"))

    def load(self, paths: list[str]) -> list[dict[str, object]]:
        return self._listed(Message("load", {"paths": paths}), _BULK_TIMEOUTS)

    def advance_day(self, day: int) -> None:
        self.call(Message("advance_day", {"day": day}), _BULK_TIMEOUTS)

    def save(self, directory: str) -> list[dict[str, object]]:
        return self._listed(Message("save", {"directory": directory}), _BULK_TIMEOUTS)

    def begin_save(self, directory: str, kind: str = "full", cut: int = 0) -> None:
        self.call(Message("begin_save", {"directory": directory, "kind": kind, "cut": cut}), _BULK_TIMEOUTS)

    def finish_save(self) -> list[dict[str, object]] | None:
        found: list[dict[str, object]] | None = self.call(Message("finish_save")).fields["result"]
        return found

    def give_up_save(self) -> None:
        self.call(Message("give_up_save"))

    def stats(self) -> list[dict[str, object]]:
        found = self.call(Message("stats")).fields["result"]
        for server in found:  # the keys of an object of JSON are strings
            histogram = server["staleness"]["histogram"]
            server["staleness"]["histogram"] = {int(many): count for many, count in histogram.items()}
        return list(found)

    def shutdown(self) -> None:
        self.call(Message("shutdown"))

    def read(self, ids: list[NDArray[np.uint64]], offsets: list[NDArray[np.int64]]) -> Activations:
        """The activations of a batch for evaluation: creates no rows."""
        reply, masks = without_masks(self.call(Message("read", arrays=[*ids, *offsets])))
        return Activations(reply.arrays, [masks.get(feature) for feature in range(len(ids))])

    def close(self) -> None:
        """Tell the embedding worker that this trainer needs it no more; the last call."""
        self.call(Message("leave"))

    def call(self, request: Message, timeouts: int = 1) -> Message:
        """The reply to a request. The embedding worker's own time limit, and its error, come first."""
        limit = (timeouts + 1) * self._timeout_s
        with self._one_at_a_time:
            self._line.send(request, limit)
            reply = self._line.receive(request.kind, limit)
        if reply.kind == "error":
            raise carried_error(reply.fields, self._line.peer)
        return reply

    def _listed(self, request: Message, timeouts: int) -> list[dict[str, object]]:
        found: list[dict[str, Any]] = self.call(request, timeouts).fields["result"]
        return found
