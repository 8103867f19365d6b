"""A batch arrives as it was sent, and gradients come back to their features, whatever blocks carry them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from persia_core.data.batch import HashedBatch
from persia_core.training.staging import BlockStaging, HostStaging, Inputs, Staging, staging_for

CPU = torch.device("cpu")
TABLES = [2, 0, 2, 1, 0]  # of each feature: two tables have two
SIZES = [(3, 0), (4, 0), (3, 5), (1, 0), (4, 2)]  # dim, and the places of a sequence


@dataclass(frozen=True)
class Pooled:
    pooled: list[NDArray[np.float32]]
    masks: list[NDArray[np.bool_] | None]


@dataclass(frozen=True)
class Carried:
    data: HashedBatch


@dataclass(frozen=True)
class Arrived:
    batch: Carried
    lookup: Any


def arrived(number: int, rows: int, weighted: bool = False) -> Arrived:
    rng = np.random.default_rng(number)
    shapes = [(rows, dim) if length == 0 else (rows, length, dim) for dim, length in SIZES]
    pooled = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    masks = [None if length == 0 else rng.random((rows, length)) < 0.5 for _, length in SIZES]
    dense = rng.standard_normal((rows, 2)).astype(np.float32)
    labels = rng.standard_normal(rows).astype(np.float32)
    weights = rng.random(rows).astype(np.float32) if weighted else None
    return Arrived(Carried(HashedBatch(labels, dense, [], [], weights)), Pooled(pooled, masks))


def features(buffers: list[Any], inputs: Inputs) -> list[Any]:
    return [
        buffers[place.buffer].reshape(-1)[place.offset :][: int(np.prod(place.shape))].reshape(place.shape)
        for place in inputs.places
    ]


@pytest.fixture(params=["host", "blocks"])
def staging(request: pytest.FixtureRequest) -> Staging:
    return HostStaging() if request.param == "host" else BlockStaging(CPU, TABLES, staleness=2)


def test_batches_of_changing_size_arrive_as_they_were_sent(staging: Staging) -> None:
    sizes = [5, 1, 0, 64, 7, 200, 3]
    found = list(staging.ahead(arrived(number, rows) for number, rows in enumerate(sizes)))
    assert len(found) == len(sizes), "all of them are held here: none may have been overwritten"
    for number, (ready, inputs) in enumerate(found):
        staging.use(inputs)
        expected = arrived(number, sizes[number])
        assert np.array_equal(ready.batch.data.labels, expected.batch.data.labels)
        assert np.array_equal(inputs.dense.numpy(), expected.batch.data.dense)
        assert np.array_equal(inputs.labels.numpy(), expected.batch.data.labels)
        for sent, came in zip(expected.lookup.pooled, features(inputs.buffers, inputs), strict=True):
            assert np.array_equal(came.numpy(), sent)
        for mask, arrived_mask in zip(expected.lookup.masks, inputs.masks, strict=True):
            assert (mask is None) == (arrived_mask is None)
            if arrived_mask is not None:
                assert arrived_mask.dtype == torch.bool
                assert np.array_equal(arrived_mask.numpy(), mask)


def test_weights_travel_with_their_batch(staging: Staging) -> None:
    sizes = [5, 0, 7]
    found = list(staging.ahead(arrived(number, rows, weighted=True) for number, rows in enumerate(sizes)))
    for number, (_, inputs) in enumerate(found):
        staging.use(inputs)
        expected = arrived(number, sizes[number], weighted=True)
        assert inputs.weights is not None
        assert np.array_equal(inputs.weights.numpy(), expected.batch.data.weights)
        assert np.array_equal(inputs.labels.numpy(), expected.batch.data.labels)
        for sent, came in zip(expected.lookup.pooled, features(inputs.buffers, inputs), strict=True):
            assert np.array_equal(came.numpy(), sent)
    [(_, inputs)] = staging.ahead([arrived(0, 3)])
    assert inputs.weights is None


def test_gradients_go_back_to_their_features_and_last_until_acknowledged(staging: Staging) -> None:
    kept = []
    for number in range(6):
        [(_, inputs)] = staging.ahead([arrived(number, 4 + number)])
        gradients = [2 * buffer for buffer in inputs.buffers]
        returned, numbers = staging.to_host(gradients, inputs.places, torch.tensor([1.5, float(number)]))
        assert numbers == [1.5, number]
        kept.append((returned, number))
        for late, of in kept[-2:]:  # as many as there are permits may still be on their way to servers
            for gradient, pooled in zip(late, arrived(of, 4 + of).lookup.pooled, strict=True):
                assert np.array_equal(gradient, 2 * pooled)


def test_the_features_of_a_table_travel_as_one_block() -> None:
    [(_, inputs)] = BlockStaging(CPU, TABLES, 1).ahead([arrived(0, 5)])
    assert [buffer.shape for buffer in inputs.buffers] == [(5 * (4 + 8),), (5,), (5 * (3 + 15),)]
    memory = {
        buffer.untyped_storage().data_ptr()
        for buffer in (inputs.dense, inputs.labels, *inputs.buffers, *inputs.masks)
        if buffer is not None
    }
    assert len(memory) == 1, "and the batch as one copy"
    assert all(buffer.data_ptr() % 64 == 0 for buffer in inputs.buffers)


def test_batches_are_staged_ahead_of_their_use() -> None:
    taken = threading.Semaphore(0)

    def source() -> Iterator[Arrived]:
        for number in range(4):
            taken.release()
            yield arrived(number, 3)

    batches = BlockStaging(CPU, TABLES, 1).ahead(source())
    next(batches)
    assert taken.acquire(timeout=20) and taken.acquire(timeout=20), "the second came before it was asked for"
    assert len(list(batches)) == 3


def test_an_error_of_the_source_is_raised_where_batches_are_taken(staging: Staging) -> None:
    def source() -> Iterator[Arrived]:
        yield arrived(0, 3)
        raise OSError("the server is gone")

    batches = staging.ahead(source())
    next(batches)
    with pytest.raises(OSError, match="the server is gone"):
        next(batches)


def test_the_device_decides() -> None:
    assert isinstance(staging_for(CPU, TABLES, 1), HostStaging)
