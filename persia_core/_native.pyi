"""The C++ side as Python sees it: ids, and the embedding worker. Built from native/bindings."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class TransportError(RuntimeError):
    """A request to an embedding server failed; names server rank and operation."""

class ServerError(RuntimeError):
    """An embedding server answered a request with an error; names server rank, operation and reason."""

class Heartbeat:
    """A sign of life of this process in the file `path`, from a thread of its own, which needs no GIL."""

    def __init__(self, path: str) -> None:
        """Beat from now on, twice a second, as long as this lives. Raises RuntimeError if it cannot write."""

def xxh64(data: bytes, seed: int) -> int:
    """XXH64 (xxHash specification) of `data`, as an unsigned 64-bit integer."""

def mix64(id: int) -> int:
    """The finaliser of SplitMix64, from which the server of an id is chosen."""

def make_id(prefix: int, prefix_bits: int, value: bytes) -> int:
    """prefix in the top bits, XXH64(seed 42, value) >> prefix_bits below."""

def server_of(ids: NDArray[np.uint64], servers: int) -> NDArray[np.uint32]:
    """mix64(id) % servers of each id; shape [n]."""

def initial_rows(table: dict[str, object], seed: int, ids: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The weights that rows of `table` have before any update, rounded to its weight_type; shape [n, dim]."""

class Store:
    """One embedding table in this process, without a server: for tests and benchmarks.

    Calls release the GIL, and wait for one another. Ids must have the prefix of the table (ValueError). With
    several threads the ids are shared out among them, as on a server.
    """

    def __init__(self, table: dict[str, object], seed: int, servers: int = 1, threads: int = 1) -> None: ...
    def lookup(
        self, ids: NDArray[np.uint64], training: bool, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Weights of `ids` [n], which may repeat, as [n, dim], in `out` if given; no row reads as zeros.

        With `training`, ids without a row get one if they are admitted, and the clock of recency advances.
        """
    def update(
        self,
        ids: NDArray[np.uint64],
        gradients: NDArray[np.float32],
        learning_rate_factor: float = 1.0,
        step: int = 0,
    ) -> None:
        """One optimizer step per distinct id, with the sum of its gradients [n, dim], which are finite.

        The learning rate is the table's times `learning_rate_factor`, a number >= 0 (ValueError). `step` is
        how many updates came before.
        """
    def advance_day(self, day: int) -> None:
        """From now on it is `day`, counted from 1970-01-01: rows that are too old for their table go.

        Changes nothing if it is that day or a later one already.
        """
    def insert(
        self,
        ids: NDArray[np.uint64],
        weights: NDArray[np.float32],
        state: NDArray[np.float32],
        last_used: NDArray[np.uint32] | None = None,
    ) -> int:
        """Rows as `export` gives them: ids [n], weights [n, dim], state [n, state_dim], clocks [n] (None: 0).

        An id that has a row keeps it; how many had none. A full table evicts the least recently used rows.
        """
    def export(self, rows: int = 65536) -> StoreExport:
        """All rows, at most `rows` at a time, in no particular order, as `insert` takes them.

        RuntimeError if the store changes on the way.
        """
    def stats(self) -> dict[str, int]:
        """The counters `tables.<name>.*` of docs/formats/wire.md."""
    def memory(self) -> dict[str, int | None]:
        """`bytes` as allocated, `payload_bytes` (weights and state) in them, `row_bytes`, `capacity_rows`."""

class StoreExport:
    """An iterator of (ids, weights, state, last_used) of some rows; see Store.export."""

    def __iter__(self) -> StoreExport: ...
    def __next__(
        self,
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]]: ...

class Lookup:
    """Pooled activations of one batch, and what is needed to send its gradients back.

    `pooled[f]` is float32 [batch, dim of feature f], or [batch, length, dim] with pooling `sequence`, in
    feature order, C-contiguous and writable. The rows of a bag fill the places of a sequence from the first
    on, in the order of the bag; the places after them are zeros. Of a longer bag the last ids are kept.

    All features of a table lie in one buffer, in feature order without gaps, so that they can be copied to a
    device at once: `buffers[t]` is flat float32, and `pooled[f]` a view of it.
    """

    @property
    def pooled(self) -> list[NDArray[np.float32]]: ...
    @property
    def masks(self) -> list[NDArray[np.bool_] | None]:
        """Per feature, bool [batch, length]: which places hold an id. None but with pooling `sequence`."""
    @property
    def buffers(self) -> list[NDArray[np.float32]]:
        """Per table, the activations of all its features."""
    @property
    def layout(self) -> list[tuple[int, int, tuple[int, ...]]]:
        """Per feature: its table, where it begins in the table's buffer, in floats, and its shape."""
    @property
    def batch(self) -> int: ...
    @property
    def unique_ids(self) -> int: ...
    @property
    def missing_ids(self) -> int:
        """Ids not on the server: they contribute zeros (evaluation never creates rows)."""
    @property
    def truncated_ids(self) -> int:
        """Ids, repeated ones included, that did not fit into their sequence; nothing was asked for them."""

class PendingLookup:
    """A lookup whose rows have been asked for; see EmbeddingWorker.begin_lookup."""

class PendingReturn:
    """An update or a discard that has been sent; see EmbeddingWorker.begin_update."""

class EmbeddingWorker:
    """Reads rows from, and sends gradients to, the embedding servers. Calls release the GIL.

    A call waits for its replies, unless its name begins with begin: then `finish_...` waits, in any order and
    in any thread. Servers work on lookups in the order in which they were begun, and so on updates and
    discards. Of either at most `staleness` are on their way at once: another one first waits for the oldest.
    Lookups do not wait for updates, nor updates for lookups.
    """

    def __init__(
        self,
        *,
        transport: str,  # "mpi" (ranks 0..servers-1 of MPI_COMM_WORLD are servers) or "in-process"
        servers: int,
        tables: list[dict[str, object]],  # see persia_core.embedding.tables
        # Of each id feature, in feature order: see persia_core.embedding.tables. A number is a feature
        # of that table with the table's pooling.
        features: Sequence[dict[str, object] | int],
        trainer: int,
        trainers: int,
        staleness: int,
        combine: bool,  # servers collect all trainers' gradients of a batch, one optimizer step
        seed: int,
        timeout_s: float,
        server_threads: int = 1,  # of each server in this process; an MPI server has its own option
        number: int = 0,  # over MPI: among the workers of its rank, below --workers-per-rank
        # For benchmarks: every reply is received no earlier than this after its request was sent, while the
        # thread sleeps. All requests that are on their way wait at the same time.
        delay_s: float = 0.0,
        # How rows and gradients travel: "float32", "bfloat16" or "float16". The same for all trainers.
        wire_values: str = "float32",
        # Of servers in this process: the directory for segments; an MPI server has an option of its own.
        segments: str = "",
    ) -> None: ...
    def configure(self) -> None:
        """Tell every server its tables. One trainer calls it once, before any other call of any trainer."""
    def lookup(
        self,
        batch: int,  # strictly increasing per trainer, from 0 or the restored position
        ids: list[NDArray[np.uint64]],  # per feature, flat
        offsets: list[NDArray[np.int64]],  # per feature, [rows + 1], offsets[0] = 0
        training: bool,  # True: creates rows and takes a staleness permit at the servers
        # Per table, flat, writable: where to write (pinned memory, say), at least `buffer_floats` each. They
        # are kept with the Lookup, and may be used again when its activations are done with.
        buffers: list[NDArray[np.float32]] | None = None,
    ) -> Lookup:
        """The rows of a batch, pooled. Raises ValueError, asking nothing, where an argument is wrong."""
    def begin_lookup(
        self,
        batch: int,
        ids: list[NDArray[np.uint64]],
        offsets: list[NDArray[np.int64]],
        training: bool,
        buffers: list[NDArray[np.float32]] | None = None,
    ) -> PendingLookup:
        """Ask for the rows of a batch, as `lookup` does. `ids` and `offsets` are no longer needed then."""
    def finish_lookup(self, pending: PendingLookup) -> Lookup:
        """Wait for the rows and pool them. ValueError if `pending` is finished already."""
    def buffer_floats(self, rows: int) -> list[int]:
        """How many floats the features of each table take for a batch of `rows` samples."""
    def update(
        self,
        lookup: Lookup,
        gradients: list[NDArray[np.float32]],
        scale: float,
        learning_rate_factors: list[float] | None = None,  # one per table; None: all are 1
    ) -> None:
        """Expand pooled gradients (times `scale`) to ids, summed over occurrences, and apply them.

        Each has the shape of its `pooled`; those of places without an id must be finite and go nowhere.
        The learning rate of each table is multiplied by its factor, a number >= 0. Returns when every
        server has acknowledged. Raises ValueError, sending nothing, when a gradient is not finite or has
        another shape than the lookup, or a factor is wrong.
        """
    def discard(self, lookup: Lookup) -> None:
        """Give the permit of a training lookup back without an update (a skipped batch)."""
    def begin_update(
        self,
        lookup: Lookup,
        gradients: list[NDArray[np.float32]],
        scale: float,
        learning_rate_factors: list[float] | None = None,
    ) -> PendingReturn:
        """Send the gradients of a batch, as `update` does. `gradients` are no longer needed then."""
    def begin_discard(self, lookup: Lookup) -> PendingReturn:
        """Send a discard."""
    def finish_return(self, pending: PendingReturn) -> None:
        """Wait until every server has acknowledged. ValueError if `pending` is finished already."""
    def save(self, directory: str) -> list[dict[str, object]]:
        """Every server writes `embedding-<server>.safetensors` to `directory`; rows and bytes of each."""
    def begin_save(self, directory: str, kind: str = "full", cut: int = 0) -> None:
        """The same, written by processes with a snapshot of the tables as they are now: returns at once.

        `kind` is "full", "base" or "delta": a delta holds what has changed since the last base or delta.
        Both have a number `cut` above 0, each its own; see docs/formats/checkpoint.md. ServerError while
        batches are outstanding, while a save is under way, or for a delta of nothing.
        """
    def finish_save(self) -> list[dict[str, object]] | None:
        """What `save` would have returned; None if not all are done. ServerError if one has failed."""
    def give_up_save(self) -> None:
        """End a save that is under way, if there is one; throw away what it has written."""
    def load(self, paths: list[str]) -> list[dict[str, object]]:
        """Every server reads all parts and keeps the rows that are its own. Tables must be empty."""
    def advance_day(self, day: int) -> None:
        """Tell every server that it is `day` now, counted from 1970-01-01; rows that are too old go.

        A day that is not after the current one changes nothing. ServerError while batches are outstanding.
        """
    def stats(self) -> list[dict[str, object]]:
        """One dictionary per server; see docs/formats/wire.md for the counters."""
    def shutdown(self) -> None:
        """Tell every server to end. One trainer calls it last."""
