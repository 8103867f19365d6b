"""Pooling of features against torch in float64 and against a dict with NumPy, forward and backward."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeWorker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import id_of, initial_row, make_table
from torch import nn

Bag = list[int]  # values of ids
SGD = {"kind": "sgd", "learning_rate": 0.5}
POOLINGS = ["sum", "mean", "sqrtn", "sequence"]
SEED = 5  # of make_worker


@dataclass
class Feature:
    table: int
    pooling: str
    length: int = 0

    def spec(self) -> dict[str, object]:
        return {"table": self.table, "pooling": self.pooling, "length": self.length}


def arrays(
    tables: list[dict[str, Any]], features: list[Feature], bags: list[list[Bag]]
) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.int64]]]:
    ids, offsets = [], []
    for feature, of_feature in zip(features, bags, strict=True):
        flat = [id_of(tables[feature.table], value) for bag in of_feature for value in bag]
        ids.append(np.array(flat, dtype=np.uint64))
        offsets.append(np.cumsum([0, *map(len, of_feature)]).astype(np.int64))
    return ids, offsets


# --- torch -----------------------------------------------------------------------------------------------


def pooled_by_torch(weight: nn.Parameter, feature: Feature, bags: list[Bag]) -> torch.Tensor:
    """What torch's own layers make of the rows `weight` [values, dim]; row i is of value i."""
    if feature.pooling == "sequence":
        padding = weight.shape[0]
        kept = [bag[-feature.length :] for bag in bags]
        padded = torch.tensor([bag + [padding] * (feature.length - len(bag)) for bag in kept])
        zero = torch.zeros(1, weight.shape[1], dtype=weight.dtype)
        return nn.functional.embedding(padded, torch.cat([weight, zero]))
    flat = torch.tensor([value for bag in bags for value in bag], dtype=torch.int64)
    offsets = torch.tensor(np.cumsum([0, *map(len, bags)]))
    if feature.pooling == "sqrtn":
        shares = torch.tensor([len(bag) ** -0.5 for bag in bags for _ in bag], dtype=weight.dtype)
        return nn.functional.embedding_bag(
            flat, weight, offsets, mode="sum", per_sample_weights=shares, include_last_offset=True
        )
    return nn.functional.embedding_bag(flat, weight, offsets, mode=feature.pooling, include_last_offset=True)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("servers", [1, 3])
def test_a_pooling_equals_torch_in_float64(make_worker: MakeWorker, pooling: str, servers: int) -> None:
    values, dim, length = 11, 6, 4
    table = make_table("t", 1, dim, optimizer=SGD)
    feature = Feature(0, pooling, length if pooling == "sequence" else 0)
    rng = np.random.default_rng(len(pooling))
    bags = [rng.integers(0, values, size).tolist() for size in [0, 1, 2, 3, 4, 5, 9, 0, 17]]
    bags.append([3, 3, 3, 1])  # the same id several times
    assert any(len(bag) != len(set(bag)) for bag in bags) and any(len(bag) > length for bag in bags)
    worker = make_worker(tables=[table], features=[feature.spec()], servers=servers)
    rows = [initial_row(table, SEED, id_of(table, value)) for value in range(values)]
    weight = nn.Parameter(torch.tensor(np.stack(rows), dtype=torch.float64))

    ids, offsets = arrays([table], [feature], [bags])
    found = worker.lookup(0, ids, offsets, training=True)
    expected = pooled_by_torch(weight, feature, bags)
    assert found.pooled[0].shape == tuple(expected.shape)
    np.testing.assert_allclose(found.pooled[0], expected.detach().numpy(), rtol=1e-6, atol=1e-6)

    gradient = rng.standard_normal(expected.shape).astype(np.float32)
    worker.update(found, [gradient], 0.25)
    (0.25 * expected * torch.from_numpy(gradient)).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    stepped = (weight - SGD["learning_rate"] * weight.grad).detach().numpy()  # type: ignore[operator]
    asked_for = {value for bag in bags for value in kept(feature, bag)}
    stepped[[value not in asked_for for value in range(values)]] = 0  # what was cut off has no row

    every, bounds = arrays([table], [Feature(0, "sum")], [[[value] for value in range(values)]])
    reader = make_reader(worker, feature, every[0], bounds[0])
    np.testing.assert_allclose(reader, stepped, rtol=1e-6, atol=1e-6)


def make_reader(
    worker: Any, feature: Feature, ids: NDArray[np.uint64], offsets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The rows of ids, one to a bag: every pooling gives them back as they are."""
    pooled: NDArray[np.float32] = worker.lookup(0, [ids], [offsets], training=False).pooled[0]
    return pooled[:, 0] if feature.pooling == "sequence" else pooled


# --- a dict with NumPy -----------------------------------------------------------------------------------

TABLES = [
    make_table("item", 1, 3, optimizer=SGD, pooling="sqrtn"),
    make_table("tag", 2, 5, optimizer=SGD | {"momentum": 0.5}),
]
FEATURES = [
    Feature(0, "sum"),
    Feature(0, "sequence", 3),
    Feature(1, "mean"),
    Feature(0, "sqrtn"),
    Feature(1, "sequence", 1),
    Feature(0, "sequence", 5),
]
VALUES = 6
BAGS = st.lists(st.integers(0, VALUES - 1), max_size=7)


@st.composite
def batches(draw: st.DrawFn) -> list[list[Bag]]:
    rows = draw(st.integers(0, 4))
    return [[draw(BAGS) for _ in range(rows)] for _ in FEATURES]


class Oracle:
    """Rows as a dict, each optimizer step written out; everything in float64."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], NDArray[np.float64]] = {}
        self.momentum: dict[tuple[int, int], NDArray[np.float64]] = {}

    def row(self, table: int, value: int) -> NDArray[np.float64]:
        start = initial_row(TABLES[table], SEED, id_of(TABLES[table], value)).astype(np.float64)
        return self.rows.setdefault((table, value), start)

    def forward(self, feature: Feature, bag: Bag) -> NDArray[np.float64]:
        rows = [self.row(feature.table, value) for value in kept(feature, bag)]
        dim = TABLES[feature.table]["dim"]
        if feature.pooling == "sequence":
            return np.stack([*rows, *[np.zeros(dim)] * (feature.length - len(rows))])
        return np.asarray(sum(rows, np.zeros(dim)) * share(feature, bag))

    def step(self, gradients: dict[tuple[int, int], NDArray[np.float64]]) -> None:
        """b = momentum * b + g; w -= learning_rate * b, for every row that has a gradient."""
        for key, gradient in gradients.items():
            optimizer = TABLES[key[0]]["optimizer"]
            before = self.momentum.get(key, np.zeros_like(gradient))
            self.momentum[key] = optimizer.get("momentum", 0.0) * before + gradient
            self.rows[key] = self.rows[key] - optimizer["learning_rate"] * self.momentum[key]


def kept(feature: Feature, bag: Bag) -> Bag:
    return bag[-feature.length :] if feature.pooling == "sequence" else bag


def share(feature: Feature, bag: Bag) -> float:
    """What each row of the bag counts in the pooled vector."""
    if not bag or feature.pooling in ("sum", "sequence"):
        return 1.0
    return float(1.0 / len(bag) if feature.pooling == "mean" else 1.0 / np.sqrt(len(bag)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(batches(), min_size=1, max_size=4), servers=st.integers(1, 3), seed=st.integers(0, 9))
def test_features_that_share_tables_equal_a_dictionary(
    make_worker: MakeWorker, history: list[list[list[Bag]]], servers: int, seed: int
) -> None:
    worker = make_worker(tables=TABLES, features=[f.spec() for f in FEATURES], servers=servers)
    oracle, rng = Oracle(), np.random.default_rng(seed)
    updates = 0
    for number, bags in enumerate(history):
        found = worker.lookup(number, *arrays(TABLES, FEATURES, bags), training=True)
        sums: dict[tuple[int, int], NDArray[np.float64]] = {}
        gradients = [rng.standard_normal(pooled.shape).astype(np.float32) for pooled in found.pooled]
        for f, feature in enumerate(FEATURES):
            mask = found.masks[f]
            assert (mask is None) == (feature.pooling != "sequence")
            for r, bag in enumerate(bags[f]):
                np.testing.assert_allclose(found.pooled[f][r], oracle.forward(feature, bag), atol=1e-5)
                ids = kept(feature, bag)
                if mask is not None:
                    assert mask[r].tolist() == [place < len(ids) for place in range(feature.length)]
                for place, value in enumerate(ids):
                    one = gradients[f][r, place] if mask is not None else gradients[f][r]
                    key = feature.table, value
                    sums[key] = sums.get(key, 0.0) + one.astype(np.float64) * share(feature, bag)
        dropped = [len(bag) - len(kept(FEATURES[f], bag)) for f in range(len(FEATURES)) for bag in bags[f]]
        assert found.truncated_ids == sum(dropped)
        assert found.unique_ids == len(sums)
        worker.update(found, gradients, 1.0)
        oracle.step(sums)
        updates += len(sums)
    # An id of several features took one step; one that was cut off was not asked for.
    tables: list[Any] = [stats["tables"] for stats in worker.stats()]
    assert sum(table[name]["updates"] for table in tables for name in ("item", "tag")) == updates
    assert sum(table[name]["rows"] for table in tables for name in ("item", "tag")) == len(oracle.rows)
    check_rows(worker, oracle)


def check_rows(worker: Any, oracle: Oracle) -> None:
    bags = [
        [[value] if (feature.table, value) in oracle.rows else [] for value in range(VALUES)]
        for feature in FEATURES
    ]
    found = worker.lookup(0, *arrays(TABLES, FEATURES, bags), training=False)
    assert found.missing_ids == 0
    for f, feature in enumerate(FEATURES):
        for value in range(VALUES):
            expected = oracle.forward(feature, bags[f][value])
            np.testing.assert_allclose(found.pooled[f][value], expected, atol=1e-4)


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"table": 0, "pooling": "max", "length": 0}, "unknown pooling max"),
        ({"table": 0, "pooling": "sequence", "length": 0}, "length"),
        ({"table": 0, "pooling": "sequence", "length": 4097}, "length"),
        ({"table": 0, "pooling": "mean", "length": 3}, "length"),
        ({"table": 2, "pooling": "sum", "length": 0}, "table"),
        (2, "table"),
        ({"table": 0, "pooling": "sum"}, "length is missing"),
        ({"table": 0, "pooling": "sum", "length": 0, "dim": 3}, "unknown key"),
        ("item", "number of a table"),
    ],
)
def test_a_feature_that_makes_no_sense_is_refused(
    make_worker: MakeWorker, spec: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_worker(tables=TABLES, features=[spec])


def test_a_table_is_no_sequence(make_worker: MakeWorker) -> None:
    with pytest.raises(ValueError, match="unknown pooling sequence"):
        make_worker(tables=[make_table("t", 1, 2, pooling="sequence")])


def test_gradients_of_a_sequence_have_its_shape_and_are_finite_in_every_place(
    make_worker: MakeWorker,
) -> None:
    features = [Feature(0, "sequence", 2), Feature(0, "sum")]
    worker = make_worker(tables=TABLES, features=[feature.spec() for feature in features])
    found = worker.lookup(0, *arrays(TABLES, features, [[[1], []], [[2], [1]]]), training=True)
    flat, good = np.ones((2, 3), np.float32), np.ones((2, 2, 3), np.float32)
    for wrong in (flat, np.ones((2, 3, 2), np.float32), np.ones((2, 2, 3, 1), np.float32)):
        with pytest.raises(ValueError, match=r"feature 0 must have shape \[2, 2, 3\]"):
            worker.update(found, [wrong, flat], 1.0)
    bad = good.copy()
    bad[1, 1, 2] = np.nan  # a place without an id
    with pytest.raises(ValueError, match="feature 0 is not finite"):
        worker.update(found, [bad, flat], 1.0)
    assert worker.stats()[0]["requests"].get("UPDATE", 0) == 0  # type: ignore[attr-defined]
    worker.update(found, [good, flat], 1.0)


def test_a_number_is_a_feature_with_the_pooling_of_its_table(make_worker: MakeWorker) -> None:
    by_number = make_worker(tables=TABLES, features=[0, 1])
    by_name = make_worker(tables=TABLES, features=[Feature(0, "sqrtn").spec(), Feature(1, "sum").spec()])
    bags: list[list[Bag]] = [[[1, 2, 3], [4, 4]], [[1, 2], []]]
    ids, offsets = arrays(TABLES, [Feature(0, "sqrtn"), Feature(1, "sum")], bags)
    found = [worker.lookup(0, ids, offsets, training=True).pooled for worker in (by_number, by_name)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    rows = [initial_row(TABLES[0], SEED, id_of(TABLES[0], value)) for value in (1, 2, 3)]
    np.testing.assert_allclose(found[0][0][0], sum(rows) / np.sqrt(3), rtol=1e-6)
