"""A base and its deltas hold what a full save holds: after any history, on other servers, and compacted."""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeWorker
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import id_of, make_table
from safetensors.numpy import load_file

from persia_core import _native
from persia_core.checkpoint.compact import compact
from persia_core.checkpoint.tables import table_shards
from persia_core.errors import Corrupt

ROW = 4 * 2 + 24
TABLES = [
    make_table("plain", 1, 3),
    make_table("full", 2, 2, optimizer={"kind": "sgd", "learning_rate": 0.1}, capacity_bytes=14 * ROW),
    make_table("aged", 3, 1, max_age_days=2, weight_type="float16"),
    make_table("shy", 4, 2, admission={"kind": "sightings", "count": 2}),
]
NAMES = [str(table["name"]) for table in TABLES]
OPERATIONS = st.tuples(
    st.sampled_from(["train", "train", "look", "day", "delta", "delta", "base", "fail", "give up"]),
    st.integers(0, 40),
    st.integers(1, 12),
)
DEADLINE_S = 60.0


def make(servers: int, threads: int = 1) -> _native.EmbeddingWorker:
    worker = _native.EmbeddingWorker(
        transport="in-process", servers=servers, tables=TABLES, features=list(range(len(TABLES))), trainer=0,
        trainers=1, staleness=1, combine=False, seed=3, timeout_s=20.0, server_threads=threads,
    )  # fmt: skip
    worker.configure()
    return worker


class History:
    """Servers, what was done to them, and where the chain of cuts lies."""

    def __init__(self, home: Path, servers: int, threads: int = 1) -> None:
        self.worker = make(servers, threads)
        self.home = home
        self.batch = 0
        self.day = 20_000
        self.cut = 0
        self.chain: list[list[Path]] = []

    def apply(self, what: str, first: int, count: int) -> None:
        values = range(first, first + count)
        match what:
            case "train":
                self.train(values)
            case "look":  # changes when rows were last used, and makes some
                self.worker.discard(self.look(values))
            case "day":
                self.day += 1
                self.worker.advance_day(self.day)
            case "base" | "delta":
                self.save(what if self.chain else "base", values)
            case "fail":
                self.begin(self.home / "missing", "delta" if self.chain else "base")
                self.train(values)
                with pytest.raises(_native.ServerError, match="IO_ERROR"):
                    self.finish()
            case "give up":
                self.begin(self.home, "delta" if self.chain else "base")
                self.train(values)
                self.worker.give_up_save()

    def look(self, values: range) -> _native.Lookup:
        self.batch += 1
        ids = [np.array([id_of(table, v) for v in values], np.uint64) for table in TABLES]
        offsets = [np.arange(len(values) + 1, dtype=np.int64)] * len(TABLES)
        return self.worker.lookup(self.batch, ids, offsets, training=True)

    def train(self, values: range) -> None:
        lookup = self.look(values)
        self.worker.update(lookup, [np.ones_like(pooled) / self.batch for pooled in lookup.pooled], 1.0)

    def begin(self, directory: Path, kind: str) -> None:
        self.cut += 1
        self.worker.begin_save(str(directory), kind, self.cut)

    def finish(self) -> list[dict[str, object]]:
        deadline = time.monotonic() + DEADLINE_S
        while (saved := self.worker.finish_save()) is None:
            assert time.monotonic() < deadline
        return saved

    def save(self, kind: str, meanwhile: range = range(0)) -> None:
        directory = self.home / f"{self.cut + 1}"
        directory.mkdir()
        self.begin(directory, kind)
        if meanwhile:
            self.train(meanwhile)  # is not in this cut
        saved = self.finish()
        if kind == "base":
            self.chain = []
        self.chain.append([directory / str(entry["name"]) for entry in saved])

    @property
    def paths(self) -> list[Path]:
        return [path for link in self.chain for path in link]

    def full(self, name: str = "full") -> list[Path]:
        return saved_by(self.worker, self.home / name)


def saved_by(worker: _native.EmbeddingWorker, directory: Path) -> list[Path]:
    directory.mkdir()
    return [directory / str(entry["name"]) for entry in worker.save(str(directory))]


Rows = dict[tuple[str, int], tuple[bytes, ...]]  # by table and id: weights, state, last use


def rows_of(paths: list[Path]) -> Rows:
    """The rows of files, later ones over earlier ones: the dict that all of this must agree with."""
    rows: Rows = {}
    for path in paths:
        tensors = load_file(path)
        for name in NAMES:
            for key in tensors.get(f"{name}.removed_ids", ()):
                rows.pop((name, int(key)), None)
            ends = [end for end in ("weights", "state", "last_used") if f"{name}.{end}" in tensors]
            for i, key in enumerate(tensors[f"{name}.ids"]):
                rows[name, int(key)] = tuple(tensors[f"{name}.{end}"][i].tobytes() for end in ends)
    return rows


def without(rows: Rows, tables: set[str]) -> Rows:
    return {key: row for key, row in rows.items() if key[0] not in tables}


def contents(paths: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


@settings(max_examples=20, deadline=None)
@given(st.lists(OPERATIONS, max_size=25), st.integers(1, 2), st.integers(1, 2), st.integers(1, 3))
def test_base_and_deltas_are_the_full_save(
    operations: list[tuple[str, int, int]], servers: int, threads: int, others: int
) -> None:
    home = Path(tempfile.mkdtemp(prefix="persia-test-"))
    try:
        history = History(home, servers, threads)
        for operation in operations:
            history.apply(*operation)
        history.save("delta" if history.chain else "base")
        full = history.full()
        assert rows_of(history.paths) == rows_of(full)

        again = make(servers, threads)
        again.load([str(path) for path in reversed(history.paths)])  # their order means nothing
        assert contents(saved_by(again, home / "again")) == contents(full)

        (home / "compact").mkdir()
        compacted = compact(history.paths, home / "compact")
        from_compact = make(servers, threads)
        from_compact.load([str(path) for path in compacted])
        assert contents(saved_by(from_compact, home / "from compact")) == contents(full)

        elsewhere = make(others)
        elsewhere.load([str(path) for path in history.paths])
        # On fewer or otherwise many servers a table with a capacity may have no room for all rows of one.
        room = threads == 1 and servers in (1, others)
        kept = {"full"} if not room else set()
        found, expected = rows_of(saved_by(elsewhere, home / "elsewhere")), rows_of(full)
        assert without(found, kept) == without(expected, kept)

        # The chain goes on from what was loaded, and from what was compacted.
        for worker, start, name in ((again, history.paths, "a"), (from_compact, compacted, "b")):
            on = History(home, servers, threads)
            on.worker, on.batch, on.cut, on.day = worker, 1_000_000, 1_000, history.day
            on.home, on.chain = home / name, [start]
            on.home.mkdir()
            on.train(range(5, 30))
            on.apply("day", 0, 1)
            on.save("delta")
            assert rows_of(on.paths) == rows_of(on.full())
    finally:
        shutil.rmtree(home)


def test_a_delta_holds_what_has_changed_and_nothing_else(tmp_path: Path) -> None:
    history = History(tmp_path, 1)
    history.train(range(100))
    history.save("base")
    history.train(range(90, 95))
    history.save("delta")
    history.save("delta")
    (first,), (second,) = history.chain[1:]
    tensors = load_file(first)
    assert list(tensors["plain.ids"]) == [id_of(TABLES[0], v) for v in range(90, 95)]
    assert tensors["plain.removed_ids"].shape == (0,)
    assert load_file(second)["plain.ids"].shape == (0,)
    # 14 rows are held: 86..99. Of these 90..94 were used again.
    assert list(tensors["full.ids"]) == [id_of(TABLES[1], v) for v in range(90, 95)]
    history.train(range(200, 203))
    history.save("delta")
    tensors = load_file(history.chain[-1][0])
    assert list(tensors["full.removed_ids"]) == [id_of(TABLES[1], v) for v in range(86, 89)]


def test_a_delta_needs_a_base(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker(tables=TABLES)
    with pytest.raises(_native.ServerError, match="BEGIN_SAVE: NO_BASE"):
        worker.begin_save(str(tmp_path), "delta", 1)
    for kind, cut in (("full", 1), ("base", 0), ("other", 1)):
        with pytest.raises(ValueError, match="base"):
            worker.begin_save(str(tmp_path), kind, cut)


def test_a_cut_that_is_given_up_after_all_takes_a_base(tmp_path: Path) -> None:
    history = History(tmp_path, 2)
    history.train(range(20))
    history.save("base")
    history.train(range(5))
    history.save("delta")
    history.worker.give_up_save()  # another server failed, say
    with pytest.raises(_native.ServerError, match="NO_BASE"):
        history.begin(tmp_path, "delta")


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    history = History(tmp_path, 2)
    history.train(range(20))
    history.save("base")
    base = history.chain[0]
    for _ in range(3):
        history.train(range(15))
        history.save("delta")
    one, two, three = history.chain[1:]
    other = History(tmp_path / "other", 2)
    other.home.mkdir()
    other.cut = 50
    other.save("base")
    wrong: dict[str, list[Path]] = {
        "no base": [*one, *two],
        "a gap": [*base, *one, *three],
        "another base": [*other.chain[0], *one],
        "two bases": [*base, *other.chain[0]],
        "two of one": [*base, *base],
    }
    for name, paths in wrong.items():
        worker = make(2)
        with pytest.raises(_native.ServerError, match=r"PART_MISMATCH|CORRUPT_PART"):
            worker.load([str(path) for path in paths])
        assert sum(t["rows"] for s in worker.stats() for t in s["tables"].values()) == 0, name  # type: ignore[attr-defined]
        if name != "two of one":
            with pytest.raises(Corrupt):
                compact(paths, tmp_path)
    with pytest.raises(Corrupt, match="is a delta"):
        table_shards(one, "plain", 3)
    damaged = bytearray(two[0].read_bytes())
    damaged[-1] ^= 1
    two[0].write_bytes(damaged)
    whole = [*base, *one, *two, *three]
    with pytest.raises(_native.ServerError, match=rf"CORRUPT_PART: {two[0]}"):
        make(2).load([str(path) for path in whole])
    with pytest.raises(Corrupt, match=str(two[0])):
        compact(whole, tmp_path)
