"""Every optimizer against its paper in float64 and, where torch has it, against torch; and every option."""

from pathlib import Path
from typing import Any

import numpy as np
import optimizers as oracle
import pytest
from conftest import MakeWorker
from numpy.typing import NDArray
from reference import id_of, initial_row, make_table

from persia_core import _native

SGD = {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0}
ADAGRAD = {"kind": "adagrad", "learning_rate": 0.1, "initial_accumulator": 0.05, "epsilon": 1e-8}
ROWWISE = ADAGRAD | {"kind": "rowwise_adagrad"}
ADAM = {"kind": "adam", "learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6}
FTRL = {"kind": "ftrl", "learning_rate": 0.3, "initial_accumulator": 0.1, "beta": 1.0, "l1": 0.2, "l2": 0.1}
ALL = {
    "sgd": SGD,
    "momentum": SGD | {"momentum": 0.9, "weight_decay": 0.01},
    "decay": SGD | {"weight_decay": 0.1},
    "adagrad": ADAGRAD,
    "rowwise": ROWWISE,
    "adam": ADAM,
    "ftrl": FTRL,
}
DIMS = [1, 7, 16, 37]
STEPS = 30


def gradients_of(dim: int, n: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(dim).standard_normal((STEPS, n, dim)).astype(np.float32)


def trained(optimizer: dict[str, Any], dim: int, steps: int = STEPS) -> NDArray[np.float32]:
    """Three rows after `steps` steps; row 1 sits out every second one."""
    table = make_table("t", 1, dim, optimizer=optimizer)
    ids = np.array([id_of(table, v) for v in range(3)], np.uint64)
    store = _native.Store(table, 5)
    store.lookup(ids, training=True)
    for at, gradients in enumerate(gradients_of(dim)[:steps]):
        chosen = [0, 2] if at % 2 else [0, 1, 2]
        store.update(ids[chosen], gradients[chosen])
    return store.lookup(ids, training=False)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", ALL)
def test_steps_are_those_of_the_paper(name: str, dim: int) -> None:
    table = make_table("t", 1, dim, optimizer=ALL[name])
    expected = []
    for row in range(3):
        weights = initial_row(table, 5, id_of(table, row)).astype(np.float64)
        state = oracle.initial_state(ALL[name], dim)
        for at, gradients in enumerate(gradients_of(dim).astype(np.float64)):
            if row != 1 or at % 2 == 0:
                weights, state = oracle.step(ALL[name], weights, state, gradients[row])
        expected.append(weights)
    np.testing.assert_allclose(trained(ALL[name], dim), np.stack(expected), rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", ["sgd", "momentum", "decay", "adagrad", "adam"])
def test_steps_are_those_of_torch(name: str) -> None:
    import torch

    optimizer, table = ALL[name], make_table("t", 1, 16, optimizer=ALL[name])
    rate = optimizer["learning_rate"]
    weight = torch.nn.Parameter(torch.from_numpy(initial_row(table, 5, id_of(table, 0))))
    theirs: torch.optim.Optimizer
    if optimizer["kind"] == "sgd":
        momentum, decay = optimizer["momentum"], optimizer["weight_decay"]
        theirs = torch.optim.SGD([weight], lr=rate, momentum=momentum, weight_decay=decay)
    elif optimizer["kind"] == "adagrad":
        start = optimizer["initial_accumulator"]
        theirs = torch.optim.Adagrad(
            [weight], rate, initial_accumulator_value=start, eps=optimizer["epsilon"]
        )
    else:
        betas = (optimizer["beta1"], optimizer["beta2"])
        theirs = torch.optim.Adam([weight], rate, betas=betas, eps=optimizer["epsilon"])
    for gradients in gradients_of(16):
        weight.grad = torch.from_numpy(gradients[0])
        theirs.step()
    np.testing.assert_allclose(trained(optimizer, 16)[0], weight.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_saving_and_restoring_changes_nothing(make_worker: MakeWorker, tmp_path: Path, name: str) -> None:
    table = make_table("t", 1, 5, optimizer=ALL[name])
    ids = [np.array([id_of(table, v) for v in range(9)], np.uint64)]
    offsets = [np.arange(10, dtype=np.int64)]

    def train(worker: _native.EmbeddingWorker, batches: range) -> NDArray[np.float32]:
        for batch in batches:
            found = worker.lookup(batch, ids, offsets, training=True)
            gradient = np.random.default_rng(batch).standard_normal((9, 5)).astype(np.float32)
            worker.update(found, [gradient], 1.0)
        return worker.lookup(0, ids, offsets, training=False).pooled[0].copy()

    through = make_worker(tables=[table], servers=2)
    train(through, range(7))
    saved = through.save(str(tmp_path))
    restored = make_worker(tables=[table], servers=3)
    restored.load([str(tmp_path / str(part["name"])) for part in saved])
    np.testing.assert_array_equal(train(through, range(7, 12)), train(restored, range(7, 12)))


@pytest.mark.parametrize(
    ("optimizer", "option", "value"),
    [
        (SGD, "learning_rate", 0.2), (SGD, "momentum", 0.5), (SGD, "weight_decay", 0.1),
        (ALL["momentum"], "weight_decay", 0.1),
        *((each, option, value) for each in (ADAGRAD, ROWWISE)
          for option, value in [("learning_rate", 0.2), ("initial_accumulator", 1.0), ("epsilon", 0.1)]),
        (ADAM, "learning_rate", 0.02), (ADAM, "beta1", 0.5), (ADAM, "beta2", 0.5), (ADAM, "epsilon", 0.1),
        (FTRL, "learning_rate", 0.2), (FTRL, "initial_accumulator", 1.0), (FTRL, "beta", 2.0),
        (FTRL, "l1", 0.5), (FTRL, "l2", 1.0),
    ],
)  # fmt: skip
def test_every_option_changes_the_rows(optimizer: dict[str, Any], option: str, value: float) -> None:
    before, after = trained(optimizer, 8), trained(optimizer | {option: value}, 8)
    assert not np.allclose(before, after, rtol=1e-3)


@pytest.mark.parametrize(
    ("optimizer", "option", "values"),
    [
        (SGD, "momentum", [-0.1, 1.0]), (SGD, "weight_decay", [-1.0]), (SGD, "learning_rate", [0.0, 1e60]),
        (ADAM, "beta1", [1.0, -0.5]), (ADAM, "beta2", [1.0, float("nan")]), (ADAM, "epsilon", [0.0]),
        (FTRL, "l1", [-1.0]), (FTRL, "l2", [-1.0]), (FTRL, "beta", [-1.0]),
        (ROWWISE, "epsilon", [0.0]), (ROWWISE, "initial_accumulator", [-1.0, float("inf")]),
    ],
)  # fmt: skip
def test_wrong_options_are_named(optimizer: dict[str, Any], option: str, values: list[float]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"table t: {option} must be"):
            _native.Store(make_table("t", 1, 2, optimizer=optimizer | {option: value}), 1)
