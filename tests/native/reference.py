"""The oracle: embedding tables as a dict of rows, with the optimizers and the initializer in NumPy."""

from typing import Any

import narrow
import numpy as np
from numpy.typing import NDArray

PREFIX_BITS = 8
_MASK = (1 << 64) - 1

Bags = tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float32]]  # ids, offsets, gradients


def make_table(name: str, prefix: int, dim: int, **changes: Any) -> dict[str, Any]:
    """A table specification with Adagrad and small uniform rows; `changes` replace keys."""
    return {
        "name": name,
        "prefix": prefix,
        "prefix_bits": PREFIX_BITS,
        "dim": dim,
        "pooling": "sum",
        "optimizer": {"kind": "adagrad", "learning_rate": 0.1, "initial_accumulator": 0.0, "epsilon": 1e-10},
        "initializer": {"kind": "uniform", "low": -0.5, "high": 0.25},
        "expected_rows": 100,
    } | changes


def id_of(table: dict[str, Any], value: int) -> int:
    """Some id of the table: small values make small ids, so that ids collide and repeat."""
    return int(table["prefix"] << (64 - PREFIX_BITS)) | value


def batch_of(
    tables: list[dict[str, object]], values: list[NDArray[np.int64]]
) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.int64]]]:
    """Bags of one id each: one feature per table."""
    ids = [
        np.array([id_of(table, int(v)) for v in each], dtype=np.uint64)
        for table, each in zip(tables, values, strict=True)
    ]
    rows = max(len(each) for each in values)
    offsets = [np.minimum(np.arange(rows + 1), len(each)).astype(np.int64) for each in values]
    return ids, offsets


def mix64(z: int) -> int:
    """The finaliser of SplitMix64, in plain integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _mix64_array(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def initial_row(table: dict[str, Any], seed: int, id: int) -> NDArray[np.float32]:
    """The row of `id` before any update, as docs/formats/wire.md says."""
    initializer = table["initializer"]
    if initializer["kind"] == "zeros":
        return np.zeros(table["dim"], np.float32)
    low, high = initializer["low"], initializer["high"]
    start = mix64(id ^ mix64(seed))
    counters = np.uint64(start) + np.arange(1, table["dim"] + 1, dtype=np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    fractions = (_mix64_array(counters) >> np.uint64(40)).astype(np.float64) / 2**24
    row: NDArray[np.float32] = (low + (high - low) * fractions).astype(np.float32)
    below = np.nextafter(np.float32(high), np.float32(low))
    row[row >= np.float32(high)] = below
    return row


class ReferenceTable:
    """One embedding table, whole: the rows of all servers."""

    def __init__(self, table: dict[str, Any], seed: int, servers: int = 1) -> None:
        self.table = table
        self.name: str = table["name"]
        self.dim: int = table["dim"]
        self.kind: str = table.get("weight_type", "float32")
        self.seed = seed
        self.servers = servers
        self.rows: dict[int, NDArray[np.float32]] = {}
        self.state: dict[int, NDArray[np.float32]] = {}
        self.used: dict[int, tuple[int | None, int]] = {}  # day and clock of the last training lookup
        self.seen: dict[int, int] = {}
        self.clock = 0
        self.day: int | None = None
        self.steps = 0
        self.counts = dict.fromkeys(("evicted", "expired", "updates_missing", "saturated", "not_admitted"), 0)

    def lookup(self, ids: list[int], training: bool) -> dict[int, NDArray[np.float32]]:
        """What a lookup of distinct ids reads, in order: those of a full table may go within it."""
        self.clock += training
        found = {}
        for key in ids:
            if training and key not in self.rows and self._admits(key):
                self._create(key)
            if training and key in self.rows:
                self.used[key] = (self.day, self.clock)
            if key in self.rows:
                found[key] = self.rows[key]
        self.counts["not_admitted"] += training * (len(ids) - len(found))
        return found

    def _admits(self, key: int) -> bool:
        admission = self.table.get("admission", {"kind": "always"})
        self.seen[key] = self.seen.get(key, 0) + 1
        return admission["kind"] == "always" or self.seen[key] >= int(admission["count"])

    def _server_of(self, key: int) -> int:
        return mix64(key) % self.servers

    def _make_room(self, server: int, rows: int) -> None:
        """Keep so many rows of one server: those last used."""
        mine = sorted((self.used[k][1], k) for k in self.rows if self._server_of(k) == server)
        for _, key in mine[: max(0, len(mine) - rows)]:
            self._remove(key)
            self.counts["evicted"] += 1

    def _remove(self, key: int) -> None:
        del self.rows[key], self.used[key]
        self.state.pop(key, None)

    def _create(self, key: int) -> None:
        capacity = self.table.get("capacity_rows")
        if capacity is not None:
            self._make_room(self._server_of(key), capacity - 1)
        start = initial_row(self.table, self.seed, key)
        self.rows[key], saturated = narrow.nearest(self.kind, start)
        self.counts["saturated"] += saturated
        if self.table["optimizer"]["kind"] == "adagrad":
            self.state[key] = np.full(self.dim, self.table["optimizer"]["initial_accumulator"], np.float32)

    def advance_day(self, day: int) -> None:
        """Rows whose last training lookup was more than max_age_days before `day` go."""
        if self.day is not None and day <= self.day:
            return
        if self.day is None:
            self.used = {key: (day, clock) for key, (_, clock) in self.used.items()}
        self.day = day
        if (age := self.table.get("max_age_days")) is None:
            return
        for key, (seen, _) in list(self.used.items()):
            if seen is not None and seen < day - age:
                self._remove(key)
                self.counts["expired"] += 1

    def restored(self, servers: int) -> None:
        """A restore on so many servers: each has its capacity."""
        self.servers = servers
        self.counts = dict.fromkeys(self.counts, 0)
        if (capacity := self.table.get("capacity_rows")) is not None:
            for server in range(servers):
                self._make_room(server, capacity)

    def pool(self, ids: NDArray[np.uint64], offsets: NDArray[np.int64], create: bool) -> NDArray[np.float32]:
        """[rows, dim] of one feature that has the table to itself."""
        found = self.lookup(list(dict.fromkeys(map(int, ids))), create)
        return self.pooled(found, ids, offsets)

    def pooled(
        self, found: dict[int, NDArray[np.float32]], ids: NDArray[np.uint64], offsets: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """[rows, dim] of what a lookup has read; ids without a row count as zeros."""
        zero = np.zeros(self.dim, np.float32)
        pooled = np.zeros((len(offsets) - 1, self.dim), np.float32)
        for r in range(len(offsets) - 1):
            bag = [int(i) for i in ids[offsets[r] : offsets[r + 1]]]
            for key in bag:
                pooled[r] += found.get(key, zero)
            if self.table["pooling"] == "mean" and bag:
                pooled[r] *= np.float32(1) / np.float32(len(bag))
        return pooled

    def update(self, features: list[Bags], scale: float, factor: float = 1.0) -> None:
        """One optimizer step per id, from the gradients of all features of the table."""
        sums: dict[int, NDArray[np.float32]] = {}
        for ids, offsets, gradients in features:
            for r in range(len(offsets) - 1):
                bag = [int(i) for i in ids[offsets[r] : offsets[r + 1]]]
                share = np.float32(scale)
                if self.table["pooling"] == "mean" and bag:
                    share = np.float32(share / np.float32(len(bag)))
                for key in bag:
                    sums.setdefault(key, np.zeros(self.dim, np.float32))
                    sums[key] += share * gradients[r]
        self.step(sums, factor)

    def step(self, sums: dict[int, NDArray[np.float32]], factor: float = 1.0) -> None:
        """One optimizer step for each id of `sums`; ids without a row are counted and passed over."""
        optimizer = self.table["optimizer"]
        rate = np.float32(optimizer["learning_rate"] * factor)
        for key, gradient in sums.items():
            if key not in self.rows:
                self.counts["updates_missing"] += 1
                continue
            if optimizer["kind"] == "sgd":
                stepped = self.rows[key] - rate * gradient
            else:
                self.state[key] = self.state[key] + gradient * gradient
                denominator = np.sqrt(self.state[key]) + np.float32(optimizer["epsilon"])
                stepped = self.rows[key] - rate * gradient / denominator
            bits = narrow.random_bits(self.seed, key, self.steps, self.dim)
            self.rows[key], saturated = narrow.stochastic(self.kind, stepped, bits)
            self.counts["saturated"] += saturated
        self.steps += 1
