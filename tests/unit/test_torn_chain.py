"""A base and deltas of which a file is torn or changed anywhere: it is named, and nothing is loaded.

Here nobody has checked them against a manifest before: this is the last line of defence.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persia_core import _native
from persia_core.checkpoint.chain import Chain
from persia_core.embedding.tables import table_specs
from persia_core.errors import Corrupt
from tests.support.small_config import small_config

TABLES = table_specs(small_config())
PLACES = 8  # of each file, at which it is torn or changed

Damage = Callable[[Path, int], None]


def make(servers: int) -> _native.EmbeddingWorker:
    worker = _native.EmbeddingWorker(
        transport="in-process", servers=servers, tables=TABLES, features=list(range(len(TABLES))), trainer=0,
        trainers=1, staleness=1, combine=False, seed=1, timeout_s=20.0,
    )  # fmt: skip
    worker.configure()
    return worker


def train(worker: _native.EmbeddingWorker, number: int, values: range) -> None:
    ids = [
        np.array([(int(str(table["prefix"])) << 56) + value for value in values], np.uint64)
        for table in TABLES
    ]
    lookup = worker.lookup(number, ids, [np.arange(len(values) + 1)] * len(TABLES), training=True)
    worker.update(lookup, [np.ones_like(pooled) for pooled in lookup.pooled], 1.0)


def save(worker: _native.EmbeddingWorker, directory: Path, kind: str, cut: int) -> list[Path]:
    directory.mkdir()
    worker.begin_save(str(directory), kind, cut)
    while (saved := worker.finish_save()) is None:
        pass
    return [directory / str(part["name"]) for part in saved]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two deltas of two servers."""
    home, worker = tmp_path_factory.mktemp("chain"), make(2)
    paths = []
    for cut, values in enumerate((range(60), range(20, 50), range(40, 80)), start=1):
        train(worker, cut, values)
        paths += save(worker, home / str(cut), "base" if cut == 1 else "delta", cut)
    return paths


def tear(path: Path, place: int) -> None:
    path.write_bytes(path.read_bytes()[:place])


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def grow(path: Path, place: int) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * (place + 1))


def damages(paths: list[Path]) -> Iterator[tuple[int, Damage, int]]:
    """File by number, what is done to it, and where: spread over header and data, both ends among them."""
    for number, path in enumerate(paths):
        size = path.stat().st_size
        places = sorted({0, 7, 8, size - 1, *np.linspace(0, size - 1, PLACES).astype(int).tolist()})
        for damage in (tear, flip, grow):
            yield from ((number, damage, place) for place in places)


def rows(worker: _native.EmbeddingWorker) -> int:
    stats: list[dict[str, Any]] = worker.stats()  # type: ignore[assignment]
    return sum(int(table["rows"]) for server in stats for table in server["tables"].values())


def test_a_torn_or_changed_file_is_named_by_both_readers_and_nothing_is_loaded(
    chain: list[Path], tmp_path: Path
) -> None:
    worker = make(1)
    for number, damage, place in damages(chain):
        copies = []
        for index, path in enumerate(chain):
            copies.append(tmp_path / f"{index}.safetensors")
            shutil.copyfile(path, copies[-1])
        damage(copies[number], place)
        case = (number, damage.__name__, place)
        with pytest.raises(_native.ServerError, match=r"CORRUPT_PART|PART_MISMATCH") as refused:
            worker.load([str(path) for path in copies])
        assert str(copies[number]) in str(refused.value), case
        with pytest.raises(Corrupt) as found:
            Chain.of(copies).check_data()
        assert str(copies[number]) in found.value.what, case
        assert rows(worker) == 0, case
    worker.load([str(path) for path in chain])
    assert rows(worker) == len(TABLES) * 80
