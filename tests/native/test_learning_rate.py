"""The factor of the learning rate: on every optimizer, over the wire, and in mode sync."""

import struct
from typing import Any

import numpy as np
import optimizers as oracle
import pytest
from conftest import MakeWorker
from numpy.typing import NDArray
from reference import id_of, initial_row, make_table
from test_frames import LOOKUP, OK, UPDATE, Client, frame, lookup_payload, reply_of, update_payload
from test_optimizers import ALL, gradients_of

from persia_core import _native

SEED = 5
FACTORS = [1.0, 0.5, 0.0, 2.0, 0.125, 1.0, 1e-3, 0.0, 1.5, 1.0]
BATCH_MISMATCH, NOT_FINITE, MALFORMED = 20, 16, 9


def trained(optimizer: dict[str, Any], factors: list[float]) -> NDArray[np.float32]:
    table = make_table("t", 1, 7, optimizer=optimizer)
    ids = np.array([id_of(table, v) for v in range(3)], np.uint64)
    store = _native.Store(table, SEED)
    store.lookup(ids, training=True)
    for factor, gradients in zip(factors, gradients_of(7), strict=False):
        store.update(ids, gradients, factor)
    return store.lookup(ids, training=False)


@pytest.mark.parametrize("name", ALL)
def test_a_factor_is_of_the_learning_rate_of_its_step_alone(name: str) -> None:
    optimizer = ALL[name]
    table, rows = make_table("t", 1, 7, optimizer=optimizer), []
    for row in range(3):
        weights = initial_row(table, SEED, id_of(table, row)).astype(np.float64)
        state = oracle.initial_state(optimizer, 7)
        for factor, gradients in zip(FACTORS, gradients_of(7).astype(np.float64), strict=False):
            if optimizer["kind"] == "ftrl" and factor == 0:
                continue  # a row of ftrl takes no step then
            step = optimizer | {"learning_rate": optimizer["learning_rate"] * factor}
            weights, state = oracle.step(step, weights, state, gradients[row])
        rows.append(weights)
    np.testing.assert_allclose(trained(optimizer, FACTORS), np.stack(rows), rtol=1e-3, atol=2e-6)
    assert not np.allclose(trained(optimizer, FACTORS), trained(optimizer, [1.0] * len(FACTORS)), rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_no_step_moves_weights_with_factor_0(name: str) -> None:
    before = trained(ALL[name], [])
    after = trained(ALL[name], [0.0] * 4)
    np.testing.assert_array_equal(before, after)


def test_adam_with_factor_1_has_the_bits_of_its_formula_in_float32() -> None:
    """Also where the bias corrections are no longer looked up."""
    steps, f = 4200, np.float32
    optimizer = {"kind": "adam", "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    table = make_table("t", 1, 2, optimizer=optimizer)
    ids = np.array([id_of(table, 0)], np.uint64)
    store = _native.Store(table, SEED)
    w = store.lookup(ids, training=True)[0].copy()
    m, v = np.zeros(2, f), np.zeros(2, f)
    gradients = np.random.default_rng(0).standard_normal((steps, 1, 2)).astype(f)
    for t, gradient in enumerate(gradients, start=1):
        store.update(ids, gradient)
        g = gradient[0]
        m = f(0.9) * m + f(1 - 0.9) * g
        v = f(0.999) * v + f(1 - 0.999) * (g * g)
        rate, root = f(0.01 / (1 - 0.9**t)), f(np.sqrt(1 - 0.999**t))
        w = w - rate * m / (np.sqrt(v) / root + f(1e-8))
        if t % 100 == 1:
            np.testing.assert_array_equal(store.lookup(ids, training=False)[0], w)
    np.testing.assert_array_equal(store.lookup(ids, training=False)[0], w)


def test_the_worker_sends_each_table_its_own_factor(make_worker: MakeWorker) -> None:
    sgd = {"kind": "sgd", "learning_rate": 0.5}
    tables = [make_table(name, at + 1, 2, optimizer=sgd) for at, name in enumerate("abc")]
    worker = make_worker(tables=tables, servers=2)
    ids = [np.array([id_of(table, v) for v in range(4)], np.uint64) for table in tables]
    offsets = [np.arange(5, dtype=np.int64)] * 3
    found = worker.lookup(0, ids, offsets, training=True)
    before = [pooled.copy() for pooled in found.pooled]
    with pytest.raises(ValueError, match="one learning rate factor per table"):
        worker.update(found, [np.ones((4, 2), np.float32)] * 3, 1.0, [])
    for wrong in (float("nan"), float("inf"), -0.5):
        with pytest.raises(ValueError, match="factor of table b is not a number >= 0"):
            worker.update(found, [np.ones((4, 2), np.float32)] * 3, 1.0, [1.0, wrong, 1.0])
    worker.update(found, [np.ones((4, 2), np.float32)] * 3, 1.0, [1.0, 0.25, 0.0])
    after = worker.lookup(1, ids, offsets, training=False).pooled
    for first, second, moved in zip(before, after, [0.5, 0.125, 0.0], strict=True):
        np.testing.assert_allclose(first - second, np.full((4, 2), moved), rtol=1e-6)


@pytest.mark.parametrize(
    ("factor", "code"),
    [(float("nan"), MALFORMED), (float("inf"), MALFORMED), (-1.0, MALFORMED), (1e39, NOT_FINITE)],
)
def test_a_wrong_factor_is_refused_and_changes_nothing(factor: float, code: int) -> None:
    client = Client()
    assert client.send(LOOKUP, lookup_payload(1, [5])) is None
    before = client.rows([5])
    assert client.send(UPDATE, update_payload(1, [5], [1, 1], factor)) == code
    assert client.rows([5]) == before
    assert client.send(UPDATE, update_payload(1, [5], [1, 1], 1.0)) is None
    assert client.rows([5]) != before


class Pair(Client):
    """Two trainers in mode sync."""

    def __init__(self) -> None:
        super().__init__(trainers=2, staleness=1, combine=True)
        for trainer in range(2):
            assert self.answers(LOOKUP, lookup_payload(1, [5, 6]), trainer) == [None]

    def answers(self, type: int, payload: bytes, trainer: int) -> list[int | None]:
        """Of each reply that the request brings about: the code of the error, or None."""
        self.sequence += 1
        found: list[int | None] = []
        for reply in self.server.handle(frame(type, self.sequence, payload, trainer=trainer)):
            kind = struct.unpack_from("<H", reply, 6)[0]
            found.append(None if kind == OK else struct.unpack_from("<I", reply, 48)[0])
        return found


def test_trainers_of_one_step_must_mean_the_same_learning_rate() -> None:
    pair = Pair()
    before = pair.rows([5, 6])
    assert pair.answers(UPDATE, update_payload(1, [5], [1, 1], 0.5), 0) == []
    assert pair.answers(UPDATE, update_payload(1, [6], [1, 1], 0.25), 1) == [BATCH_MISMATCH, BATCH_MISMATCH]
    assert pair.rows([5, 6]) == before


def test_a_trainer_without_ids_of_a_table_has_no_say_in_its_learning_rate() -> None:
    pair = Pair()
    nothing = struct.pack("<QII", 1, 0, 0)
    before = np.frombuffer(pair.rows([5])[32:40], np.float32)
    assert pair.answers(UPDATE, nothing, 0) == []
    assert pair.answers(UPDATE, update_payload(1, [5], [1, 2], 0.5), 1) == [None, None]
    after = np.frombuffer(pair.rows([5])[32:40], np.float32)
    np.testing.assert_allclose(before - after, [0.25, 0.5], rtol=1e-6)


def test_equal_factors_make_one_step() -> None:
    pair = Pair()
    before = np.frombuffer(pair.rows([5])[32:40], np.float32)
    assert pair.answers(UPDATE, update_payload(1, [5], [1, 2], 0.5), 0) == []
    assert pair.answers(UPDATE, update_payload(1, [5], [2, 2], 0.5), 1) == [None, None]
    after = np.frombuffer(pair.rows([5])[32:40], np.float32)
    np.testing.assert_allclose(before - after, [0.75, 1.0], rtol=1e-6)
    assert reply_of(pair.server, frame(LOOKUP, 99, lookup_payload(2, [5])))[0] == OK
