"""Weights of 16 bits: every rounding against numbers in float64, expectation, bounds, and checkpoints."""

from pathlib import Path
from typing import Any

import narrow
import numpy as np
import optimizers as oracle
import pytest
import torch
from conftest import MakeWorker
from numpy.typing import NDArray
from reference import id_of, make_table
from safetensors.torch import load_file, save_file
from test_optimizers import ALL
from test_parts import with_checksum

from persia_core import _native

SEED = 5
KINDS = ["bfloat16", "float16"]
TORCH = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PLAIN = {"kind": "sgd", "learning_rate": 1.0}
MOMENTUM = PLAIN | {"momentum": 0.9}


def zeros_table(kind: str, dim: int, **changes: Any) -> dict[str, Any]:
    return make_table(
        "t", 1, dim, **({"optimizer": PLAIN, "initializer": {"kind": "zeros"}, "weight_type": kind} | changes)
    )


def ids_of(table: dict[str, Any], n: int) -> NDArray[np.uint64]:
    return np.array([id_of(table, v) for v in range(n)], np.uint64)


def rounded_to(kind: str, values: NDArray[np.float32], step: int = 0, seed: int = SEED) -> Any:
    """The store with rows that were 0 and became `values` [n, dim] in one step."""
    table = zeros_table(kind, values.shape[1])
    store, ids = _native.Store(table, seed), ids_of(table, len(values))
    store.lookup(ids, training=True)
    store.update(ids, -values, step=step)
    return store, store.lookup(ids, training=False)


def hard_values(rng: np.random.Generator) -> NDArray[np.float32]:
    """Random bits, and the neighbourhood of every bound of both types."""
    bits = rng.integers(0, 2**32, 60_000, dtype=np.uint64).astype(np.uint32)
    anything = bits.view(np.float32)
    powers = np.ldexp(1.0 + rng.random(40_000), rng.integers(-60, 18, 40_000)).astype(np.float32)
    edges = np.array([2.0**-24, 2.0**-25, 2.0**-14, 2.0**-126, 2.0**-133, 65504, 65520, 2.0**127], np.float32)
    around = [np.nextafter(edges, np.float32(0)), edges, np.nextafter(edges, np.float32(np.inf))]
    smallest = np.arange(1, 40, dtype=np.uint32).view(np.float32)  # subnormal in float32 already
    halves = (np.arange(1, 60) / 2 * 2.0**-24).astype(np.float32)
    found = np.concatenate([anything, powers, *around, smallest, halves, [np.float32(0), np.float32(-0.0)]])
    found = found[np.isfinite(found)]
    found = np.concatenate([found, -found])
    rows: NDArray[np.float32] = found[: len(found) // 37 * 37].reshape(-1, 37)
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_rounded_by_the_documented_bits(kind: str) -> None:
    values = hard_values(np.random.default_rng(1))
    store, found = rounded_to(kind, values, step=7)
    table, saturated = zeros_table(kind, 37), 0
    for row, key in enumerate(ids_of(table, len(values))):
        expected, beyond = narrow.stochastic(
            kind, values[row], narrow.random_bits(SEED, int(key), 7, values.shape[1])
        )
        np.testing.assert_array_equal(found[row], expected)
        saturated += beyond
    assert np.isfinite(found).all()
    assert store.stats()["saturated"] == saturated > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "initializer",
    [{"kind": "normal", "std": 0.1, "mean": 0.0}, {"kind": "uniform", "low": -3e-6, "high": 1e-4}],
)
def test_initial_rows_are_rounded_to_the_nearest(kind: str, initializer: dict[str, Any]) -> None:
    wide = make_table("t", 1, 9, initializer=initializer)
    ids = ids_of(wide, 500)
    exact = _native.initial_rows(wide, SEED, ids)
    expected = torch.tensor(exact).to(TORCH[kind]).float().numpy()
    assert (exact != expected).any()
    np.testing.assert_array_equal(_native.initial_rows(wide | {"weight_type": kind}, SEED, ids), expected)
    store = _native.Store(wide | {"weight_type": kind}, SEED)
    np.testing.assert_array_equal(store.lookup(ids, training=True), expected)
    np.testing.assert_array_equal(store.lookup(ids, training=False), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_right_on_average(kind: str) -> None:
    """The mean over ids and elements lies within 5 standard deviations of what was rounded."""
    smallest, mantissa, _ = narrow.FORMATS[kind]
    for x in (1.2345, -0.0007891, 3.7 * 2.0 ** (smallest - mantissa), 0.05 * 2.0 ** (smallest - mantissa)):
        values = np.full((3000, 64), x, np.float32)
        _, found = rounded_to(kind, values)
        given = float(np.float32(x))
        u = float(narrow.spacing(kind, np.array([given]))[0])
        neighbours = {u * np.floor(given / u), u * np.ceil(given / u)}
        assert set(np.unique(found).astype(np.float64).tolist()) == neighbours
        up = given / u - np.floor(given / u)
        deviation = u * np.sqrt(up * (1 - up) / values.size)
        assert abs(found.astype(np.float64).mean() - given) < 5 * deviation
        # Neither a row nor an element goes its own way.
        for axis in (0, 1):
            lanes = found.astype(np.float64).mean(axis=axis)
            assert abs(lanes - given).max() < 6 * u * np.sqrt(up * (1 - up) / values.shape[axis])


@pytest.mark.parametrize("kind", KINDS)
def test_steps_too_small_for_the_type_add_up(kind: str) -> None:
    """To the nearest number, a weight of 1 would never move."""
    table, steps = zeros_table(kind, 16), 400
    store, ids = _native.Store(table, SEED), ids_of(table, 500)
    store.lookup(ids, training=True)
    store.update(ids, np.full((500, 16), -1.0, np.float32))
    small = float(narrow.spacing(kind, np.array([1.0]))[0]) / 50
    for step in range(1, steps + 1):
        store.update(ids, np.full((500, 16), -small, np.float32), step=step)
    found = store.lookup(ids, training=False).astype(np.float64)
    # The sum of `steps` roundings of variance at most u^2 / 50, over 8000 weights.
    deviation = np.sqrt(steps * (50 * small) ** 2 / 50 / found.size)
    assert abs(found.mean() - (1 + steps * small)) < 5 * deviation


@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_depend_on_seed_id_step_and_element(kind: str) -> None:
    values = np.full((50, 40), 1.238, np.float32)
    _, first = rounded_to(kind, values)
    np.testing.assert_array_equal(rounded_to(kind, values)[1], first)
    assert (rounded_to(kind, values, seed=SEED + 1)[1] != first).any()
    assert (rounded_to(kind, values, step=1)[1] != first).any()
    assert (first[1:] != first[0]).any(axis=1).all()
    assert (first[:, 1:] != first[:, :1]).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["momentum", "rowwise", "adam", "ftrl"])
@pytest.mark.parametrize("dim", [1, 6, 13])
def test_optimizers_step_in_float32_between_roundings(kind: str, name: str, dim: int) -> None:
    """One step from the same weights: what float32 makes of them, rounded. State is not rounded at all."""
    wide = make_table("t", 1, dim, optimizer=ALL[name])
    ids, rng = ids_of(wide, 40), np.random.default_rng(2)
    start = _native.initial_rows(wide | {"weight_type": kind}, SEED, ids)
    gradients = rng.standard_normal((40, dim)).astype(np.float32)
    exact = _native.Store(wide | {"initializer": {"kind": "zeros"}, "optimizer": PLAIN}, SEED)
    exact.lookup(ids, training=True)
    exact.update(ids, -start)  # float32 rows that begin at the rounded ones
    np.testing.assert_array_equal(exact.lookup(ids, training=False), start)

    store = _native.Store(wide | {"weight_type": kind}, SEED)
    store.lookup(ids, training=True)
    store.update(ids, gradients, step=3)
    found = store.lookup(ids, training=False)
    for row, key in enumerate(ids):
        state = oracle.initial_state(ALL[name], dim)
        before, gradient = start[row].astype(np.float64), gradients[row].astype(np.float64)
        stepped, _ = oracle.step(ALL[name], before, state, gradient)
        u = narrow.spacing(kind, stepped)
        bits = np.array(narrow.random_bits(SEED, int(key), 3, dim)) / 2.0**32
        share = np.abs(stepped) / u
        clear = np.abs((share + bits) % 1 - 0.5) < 0.49  # float64 and float32 agree on which side this is
        expected = np.copysign(u * np.floor(share + bits), stepped)
        np.testing.assert_array_equal(found[row][clear], expected[clear].astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_infinite_and_undefined_results_are_counted_and_kept_out(kind: str) -> None:
    table = zeros_table(kind, 3, optimizer=MOMENTUM)
    largest = np.float32(narrow.FORMATS[kind][2])
    store, ids = _native.Store(table, SEED), ids_of(table, 1)
    store.lookup(ids, training=True)
    huge = np.array([[-3e38, 3e38, 0.0]], np.float32)
    store.update(ids, huge)
    store.update(ids, huge, step=1)  # the momentum is infinite now
    np.testing.assert_array_equal(store.lookup(ids, training=False), [[largest, -largest, 0]])
    before = store.stats()["saturated"]
    store.update(ids, np.zeros((1, 3), np.float32), 0.0, step=2)  # 0 * infinity
    np.testing.assert_array_equal(store.lookup(ids, training=False), [[largest, -largest, 0]])
    assert store.stats()["saturated"] == before + 2


def test_initial_weights_that_do_not_fit_are_counted_or_refused() -> None:
    normal = {"kind": "normal", "mean": 60_000.0, "std": 10_000.0}
    table = make_table("t", 1, 8, initializer=normal)
    ids = ids_of(table, 100)
    exact = _native.initial_rows(table, SEED, ids)
    store = _native.Store(table | {"weight_type": "float16"}, SEED)
    found = store.lookup(ids, training=True)
    assert found.max() == 65504
    assert store.stats()["saturated"] == (exact >= 65520).sum() > 0
    for low, high in ((-1.0, 70_000.0), (-70_000.0, 1.0)):
        uniform = {"kind": "uniform", "low": low, "high": high}
        with pytest.raises(ValueError, match="uniform reaches beyond 65504"):
            _native.Store(make_table("t", 1, 2, initializer=uniform, weight_type="float16"), SEED)
        _native.Store(make_table("t", 1, 2, initializer=uniform, weight_type="bfloat16"), SEED)
    with pytest.raises(ValueError, match="unknown weight_type float8"):
        _native.Store(make_table("t", 1, 2, weight_type="float8"), SEED)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_16_bits_take_less_of_the_capacity(kind: str) -> None:
    for dim, weights in ((1, 4), (2, 4), (3, 8), (16, 32)):
        adagrad = {"kind": "adagrad", "learning_rate": 0.1, "initial_accumulator": 0.0, "epsilon": 1e-8}
        for optimizer, state in ((PLAIN, 0), (adagrad, 4 * dim)):
            row = weights + state
            table = zeros_table(kind, dim, optimizer=optimizer, capacity_bytes=50 * (row + 24))
            store = _native.Store(table, SEED)
            assert (store.memory()["row_bytes"], store.memory()["capacity_rows"]) == (row, 50)
            store.lookup(ids_of(table, 60), training=True)
            assert store.stats()["rows"] == 50


def worker_rows(worker: _native.EmbeddingWorker, table: dict[str, Any], n: int) -> NDArray[np.float32]:
    offsets = [np.arange(n + 1, dtype=np.int64)]
    return worker.lookup(0, [ids_of(table, n)], offsets, training=False).pooled[0].copy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [3, 4])
def test_a_checkpoint_holds_16_bits_and_loses_nothing(
    make_worker: MakeWorker, tmp_path: Path, kind: str, dim: int
) -> None:
    adagrad = {"kind": "adagrad", "learning_rate": 0.1, "initial_accumulator": 0.0, "epsilon": 1e-8}
    table = make_table("t", 1, dim, optimizer=adagrad, weight_type=kind)
    ids, offsets = [ids_of(table, 30)], [np.arange(31, dtype=np.int64)]

    def train(worker: _native.EmbeddingWorker, batches: range) -> NDArray[np.float32]:
        for batch in batches:
            found = worker.lookup(batch, ids, offsets, training=True)
            gradients = np.random.default_rng(batch).standard_normal((30, dim)).astype(np.float32)
            worker.update(found, [gradients], 1.0)
        return worker_rows(worker, table, 30)

    through = make_worker(tables=[table], servers=2)
    rows = train(through, range(5))
    paths = [str(tmp_path / str(part["name"])) for part in through.save(str(tmp_path))]
    found: dict[int, Any] = {}
    for path in paths:
        tensors = load_file(path)
        assert tensors["t.weights"].dtype == TORCH[kind]
        assert tensors["t.state"].dtype == torch.float32
        assert tensors["step"].tolist() == [5]
        found |= dict(zip(tensors["t.ids"].tolist(), tensors["t.weights"].float().numpy(), strict=True))
    np.testing.assert_array_equal(np.stack([found[int(i)] for i in ids[0]]), rows)
    restored = make_worker(tables=[table], servers=3)
    restored.load(paths)
    np.testing.assert_array_equal(worker_rows(restored, table, 30), rows)
    # The bits of the rounding go on too: the step is part of the checkpoint.
    np.testing.assert_array_equal(train(restored, range(5, 9)), train(through, range(5, 9)))

    for other in {"float32", *KINDS} - {kind}:
        with pytest.raises(
            _native.ServerError,
            match=rf"PART_MISMATCH: .*embedding-0.* saved with weight_type {kind}, configured is {other}",
        ):
            make_worker(tables=[table | {"weight_type": other}]).load(paths)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_the_type_is_read_as_what_it_is(
    make_worker: MakeWorker, tmp_path: Path, kind: str
) -> None:
    table = zeros_table(kind, 64)
    worker = make_worker(tables=[table])
    found = worker.lookup(0, [ids_of(table, 1024)], [np.arange(1025, dtype=np.int64)], training=True)
    worker.discard(found)
    (part,) = worker.save(str(tmp_path))
    path = tmp_path / str(part["name"])
    everything = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(TORCH[kind]).reshape(1024, 64)
    finite = torch.isfinite(everything)
    nothing = torch.zeros((), dtype=TORCH[kind])
    tensors = load_file(path) | {"t.weights": torch.where(finite, everything, nothing)}
    metadata = {"format": "persia-embedding-2", "optimizers": "t=sgd", "data_xxh64": "0" * 16}
    save_file(tensors, path, metadata)
    save_file(tensors, path, with_checksum(path, metadata))
    restored = make_worker(tables=[table])
    restored.load([str(path)])
    np.testing.assert_array_equal(worker_rows(restored, table, 1024), tensors["t.weights"].float().numpy())
    assert not finite.all()
    for wrong in (float("inf"), float("-inf"), float("nan")):
        tensors["t.weights"][5, 6] = wrong
        save_file(tensors, path, metadata)
        save_file(tensors, path, with_checksum(path, metadata))
        with pytest.raises(_native.ServerError, match=r"CORRUPT_PART: .*not finite"):
            make_worker(tables=[table]).load([str(path)])
