"""The order of samples: every row once an epoch, whatever the number of trainers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core.training import order as order_module
from persia_core.training.order import SampleOrder, share


@given(
    rows=st.integers(1, 500),
    batch=st.integers(1, 70),
    epochs=st.integers(1, 3),
    shuffle=st.booleans(),
    trainers=st.integers(1, 5),
)
def test_every_row_is_visited_once_an_epoch_by_one_trainer(
    rows: int, batch: int, epochs: int, shuffle: bool, trainers: int
) -> None:
    order = SampleOrder(rows, batch, epochs, shuffle, seed=3)
    steps = list(order)
    assert [step.number for step in steps] == list(range(order.steps))
    for epoch in range(epochs):
        of_epoch = [step.rows for step in steps if step.epoch == epoch]
        assert all(rows_of.size == batch for rows_of in of_epoch[:-1])
        assert sorted(np.concatenate(of_epoch)) == list(range(rows))
    for step in steps:
        shares = [share(step.rows, trainer, trainers) for trainer in range(trainers)]
        assert np.array_equal(np.concatenate(shares), step.rows)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_shuffle_the_order_is_that_of_the_partition() -> None:
    steps = list(SampleOrder(10, 4, epochs=2))
    assert [list(step.rows) for step in steps] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] * 2


def test_a_shuffle_depends_on_seed_and_epoch_and_stays_in_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_module, "SHUFFLE_BLOCK", 32)
    first = [step.rows for step in SampleOrder(100, 10, epochs=2, shuffle=True, seed=1)]
    again = [step.rows for step in SampleOrder(100, 10, epochs=2, shuffle=True, seed=1)]
    other = [step.rows for step in SampleOrder(100, 10, epochs=2, shuffle=True, seed=2)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    assert not np.array_equal(np.concatenate(first[:10]), np.concatenate(first[10:]))
    visited = np.concatenate(first[:10])
    blocks = visited // 32
    changes = np.flatnonzero(np.diff(blocks))
    assert changes.size == 3, "each of the four blocks is visited in one go"
