"""A position in the data means the same to every number of trainers: rows are visited once on either side."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core.data.partition import reopen_partition
from persia_core.handoff.local_store import LocalStore
from persia_core.training import order as order_module
from persia_core.training.batch_message import stretch_fields, stretch_from
from persia_core.training.order import SampleOrder, Stretch, share
from persia_core.training.position import position_of
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_config, small_rows


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> object:
    usual, order_module.SHUFFLE_BLOCK = order_module.SHUFFLE_BLOCK, 32
    yield
    order_module.SHUFFLE_BLOCK = usual


@given(
    rows=st.integers(1, 300),
    batch=st.integers(1, 70),
    epochs=st.integers(1, 3),
    shuffle=st.booleans(),
    bounds=st.tuples(st.integers(0, 400), st.integers(0, 400)),
)
def test_a_stretch_is_a_piece_of_the_whole_order(
    rows: int, batch: int, epochs: int, shuffle: bool, bounds: tuple[int, int]
) -> None:
    order = SampleOrder(rows, batch, epochs, shuffle, seed=3)
    start, stop = sorted(min(bound, order.steps) for bound in bounds)
    whole = list(order)[start:stop]
    piece = list(stretch_from(stretch_fields(Stretch(order, start, stop))))
    assert [(step.number, step.epoch) for step in piece] == [(step.number, step.epoch) for step in whole]
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(piece, whole, strict=True))


@given(
    cut=st.integers(0, 14),
    before=st.integers(1, 4),
    after=st.integers(1, 4),
    shuffle=st.booleans(),
)
def test_rows_before_a_cut_and_after_it_are_all_rows_once_with_any_numbers_of_trainers(
    cut: int, before: int, after: int, shuffle: bool
) -> None:
    order = SampleOrder(100, 15, epochs=2, shuffle=shuffle, seed=1)
    visits = np.zeros(100, dtype=int)
    for trainers, stretch in ((before, Stretch(order, 0, cut)), (after, Stretch(order, cut, order.steps))):
        for trainer in range(trainers):
            for step in stretch:
                visits[share(step.rows, trainer, trainers)] += 1
    assert (visits == 2).all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_next_row_is_where_the_position_says(tmp_path: Path, shuffle: bool) -> None:
    config = small_config()
    store = LocalStore(tmp_path / "store")
    manifest = write_hashed_partition(
        config, store, "2026-01-01", small_rows(100), rows_per_part=40, rows_per_group=7
    )
    directory = tmp_path / "parts"
    directory.mkdir()
    (directory / "manifest.json").write_bytes(manifest.to_bytes())
    for part in manifest.parts:
        store.download(f"hashed/clicks/ds=2026-01-01/{part.path}", directory / part.path)
    partition = reopen_partition(directory, config)
    order = SampleOrder(100, 15, epochs=2, shuffle=shuffle, seed=1)
    for step in order:
        position = position_of(order, step.number, partition)
        assert position["rows_visited"] == 15 * (step.number - position["epoch"] * 7)
        assert position["epoch"] == step.epoch and not position["complete"]
        place = position["next"]
        group = pq.ParquetFile(directory / place["file"]).read_row_group(place["row_group"])
        first = int(step.rows[0])
        assert group.slice(place["row"], 1).to_pylist() == partition.read(first, first + 1).to_pylist()
    end = position_of(order, order.steps, partition)
    assert (end["complete"], end["next"], end["epoch"], end["rows_visited"]) == (True, None, 1, 100)
