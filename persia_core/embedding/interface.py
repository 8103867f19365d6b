"""What a trainer needs of its embedding worker, be it in its own process or in a rank of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Batch = TypeVar("Batch")


class Tables(Protocol):
    """The tables of all servers as a whole. One trainer calls these, between other stages of the run.

    Raise ServerError or TransportError, as the native worker does.

    `save` writes while nothing else goes on. `begin_save` takes the same cut as a snapshot and returns:
    training may go on at once. `finish_save` is then asked until it returns what `save` would have returned;
    until then it returns None. Before it has, no other save can begin; `give_up_save` ends one, and is no
    error where there is none.

    With kind "base" the parts may be followed by deltas: parts of kind "delta" hold what has changed since
    the last base or delta. Each of both has a number of its own, `cut`, above 0. `load` takes the parts of a
    base and of all deltas after it together. After a delta that failed or was given up comes a base.
    """

    def configure(self) -> None: ...
    def load(self, paths: list[str]) -> list[dict[str, object]]: ...
    def advance_day(self, day: int) -> None: ...
    def save(self, directory: str) -> list[dict[str, object]]: ...
    def begin_save(self, directory: str, kind: str = "full", cut: int = 0) -> None: ...
    def finish_save(self) -> list[dict[str, object]] | None: ...
    def give_up_save(self) -> None: ...
    def stats(self) -> list[dict[str, object]]: ...
    def shutdown(self) -> None: ...


class Activations(NamedTuple):
    """What a model gets of a batch: per feature, as native.Lookup says."""

    pooled: list[NDArray[np.float32]]
    masks: list[NDArray[np.bool_] | None]


class LookedUp(Protocol):
    """Per feature, in order. `pooled[f]`: float32 [rows, dim], of a sequence [rows, length, dim].

    C-contiguous and writable. `masks[f]`: bool [rows, length] of a sequence, else None. `truncated_ids`
    did not fit into their sequence.
    """

    @property
    def pooled(self) -> list[NDArray[np.float32]]: ...
    @property
    def masks(self) -> list[NDArray[np.bool_] | None]: ...
    @property
    def truncated_ids(self) -> int: ...
    @property
    def batch(self) -> int: ...


@dataclass(frozen=True)
class Ready(Generic[Batch]):
    """A batch whose pooled activations have arrived."""

    batch: Batch
    lookup: LookedUp


class Pipeline(Protocol[Batch]):
    """Iterate to get batches with their activations; give each one back by `update` or `discard`.

    Batches come ahead of their use and gradients are applied behind it, with bounded staleness. What fails
    on the way is raised at the caller's next call. A context manager: leaving it ends what it started.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def __iter__(self) -> Iterator[Ready[Batch]]: ...
    def update(
        self,
        ready: Ready[Batch],
        gradients: list[NDArray[np.float32]],
        scale: float,
        learning_rate_factors: list[float] | None = None,
    ) -> None:
        """Queue the gradients of a batch, float32 in the shapes of its `pooled`, to be applied times `scale`.

        The learning rate of each table is multiplied by its factor; None: all factors are 1.
        """

    def discard(self, ready: Ready[Batch]) -> None:
        """Give a batch back without an update (it was skipped)."""

    @property
    def outstanding(self) -> int:
        """Batches that have been looked up and are not done with, as far as this end knows."""

    def drain(self) -> None:
        """Wait until everything given back has been acknowledged by the servers."""
