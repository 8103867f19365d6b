"""DIN against its attention, written out place by place in float64."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from persia_core.models.din import DIN
from persia_core.models.sequence import Sequence

DIMS = {"history": 3, "item": 3, "user": 2, "shops": 2, "shop": 2}
BEHAVIOURS = {"history": "item", "shops": "shop"}
LENGTHS = {"history": 4, "shops": 2}
Array = npt.NDArray[np.float64]
Embeddings = dict[str, Tensor | Sequence]


def make(dense_dim: int = 2, **arguments: Any) -> DIN:
    torch.manual_seed(1)
    return DIN(dense_dim, DIMS, behaviours=BEHAVIOURS, attention=(5, 4), hidden=(6, 5), **arguments)


def inputs(size: int, dense_dim: int = 2) -> tuple[Tensor, Embeddings]:
    """Bags of 0, 1, ... ids; places without an id hold numbers that must not matter."""
    generator = torch.Generator().manual_seed(size)
    embeddings: Embeddings = {}
    for name, dim in DIMS.items():
        if name in BEHAVIOURS:
            length = LENGTHS[name]
            ids = torch.arange(size) % (length + 1)
            rows = torch.randn(size, length, dim, generator=generator).requires_grad_()
            embeddings[name] = Sequence(rows, torch.arange(length) < ids[:, None])
        else:
            embeddings[name] = torch.randn(size, dim, generator=generator).requires_grad_()
    return torch.randn(size, dense_dim, generator=generator), embeddings


def double(tensor: Tensor) -> Array:
    found: Array = tensor.detach().double().numpy()
    return found


def oracle_mlp(layers: nn.Module, x: Array) -> float:
    linears = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]
    for position, linear in enumerate(linears):
        x = double(linear.weight) @ x + double(linear.bias)
        if position < len(linears) - 1:
            x = np.maximum(x, 0.0)
    return float(x[0])


def sequence_of(embeddings: Embeddings, name: str) -> Sequence:
    found = embeddings[name]
    assert isinstance(found, Sequence)
    return found


def tensor_of(embeddings: Embeddings, name: str) -> Tensor:
    found = embeddings[name]
    assert isinstance(found, Tensor)
    return found


def oracle(model: DIN, dense: Tensor, embeddings: Embeddings, sample: int) -> float:
    parts = [double(dense[sample])]
    for name in DIMS:
        if name not in BEHAVIOURS:
            parts.append(double(tensor_of(embeddings, name)[sample]))
    for name, candidate in BEHAVIOURS.items():
        target = double(tensor_of(embeddings, candidate)[sample])
        interest = np.zeros(DIMS[name])
        behaviour = sequence_of(embeddings, name)
        for place in range(LENGTHS[name]):
            if bool(behaviour.mask[sample, place]):
                row = double(behaviour.rows[sample, place])
                weight = oracle_mlp(
                    model.attention[name], np.concatenate([row, target, row - target, row * target])
                )
                interest += weight * row
        parts.append(interest)
    return oracle_mlp(model.layers, np.concatenate(parts))


@pytest.mark.parametrize("dense_dim", [0, 2])
def test_din_equals_its_formula(dense_dim: int) -> None:
    model = make(dense_dim)
    dense, embeddings = inputs(9, dense_dim)
    expected = [oracle(model, dense, embeddings, sample) for sample in range(9)]
    np.testing.assert_allclose(model(dense, embeddings).detach().numpy(), expected, 1e-5, 1e-5)


def test_an_empty_sequence_is_zeros_and_places_without_an_id_do_not_matter() -> None:
    model = make()
    dense, embeddings = inputs(6)
    history = sequence_of(embeddings, "history")
    interest = model.attention["history"](history, tensor_of(embeddings, "item"))
    empty = ~history.mask.any(dim=1)
    assert bool(empty.any())
    assert not bool(empty.all())
    assert interest[empty].eq(0.0).all()
    assert interest[~empty].ne(0.0).any(dim=1).all()
    expected = model(dense, embeddings)
    other = torch.where(history.mask.unsqueeze(2), history.rows, 1e6)
    assert torch.equal(model(dense, {**embeddings, "history": Sequence(other, history.mask)}), expected)


def test_gradients_reach_every_place_that_holds_an_id_and_no_other() -> None:
    model = make()
    dense, embeddings = inputs(10)
    model(dense, embeddings).sum().backward()
    for name, value in embeddings.items():
        if isinstance(value, Sequence):
            assert value.rows.grad is not None, name
            reached = value.rows.grad.abs().sum(dim=2) > 0
            assert torch.equal(reached, value.mask), name
            assert bool(torch.isfinite(value.rows.grad).all())
        else:
            assert value.grad is not None, name
            assert bool((value.grad.abs().sum(dim=1) > 0).all()), name
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_an_empty_batch_gives_no_logits() -> None:
    logits = make()(*inputs(0))
    assert logits.shape == (0,)
    assert logits.dtype == torch.float32


def test_an_exported_model_takes_any_batch_size() -> None:
    model = make().eval()
    rows = {0: torch.export.Dim("batch")}
    shapes: dict[str, Any] = {name: Sequence(rows, rows) if name in BEHAVIOURS else rows for name in DIMS}  # type: ignore[arg-type]  # a Sequence of shapes
    exported = torch.export.export(model, inputs(4), dynamic_shapes=(rows, shapes)).module()
    for size in (3, 8):
        torch.testing.assert_close(exported(*inputs(size)), model(*inputs(size)))


@pytest.mark.parametrize(
    ("behaviours", "words"),
    [
        ({}, "must name a sequence feature"),
        ({"past": "item"}, "no feature is called 'past'"),
        ({"history": "goods"}, "no feature is called 'goods'"),
        ({"history": "user"}, "'history' has dim 3 and its candidate 'user' 2"),
        ({"history": "item", "item": "history"}, "is a sequence itself"),
    ],
)
def test_behaviours_that_cannot_be_are_refused(behaviours: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DIN(1, DIMS, behaviours=behaviours)


def test_inputs_that_do_not_match_are_refused() -> None:
    model = make()
    dense, embeddings = inputs(4)
    history = sequence_of(embeddings, "history")

    def refused(words: str, **changes: Tensor | Sequence) -> None:
        with pytest.raises(ValueError, match=words):
            model(dense, {**embeddings, **changes})

    refused("'history' must be a sequence: give it pooling: sequence", history=torch.zeros(4, 3))
    refused("feature 'item' is a sequence here", item=history)
    refused(
        r"must be \[4, length, 3\], got \[3, 4, 3\]", history=Sequence(history.rows[1:], history.mask[1:])
    )
    refused(r"must be \[4, length, 3\], got \[4, 3\]", history=Sequence(history.rows[:, 0], history.mask))
    refused(r"bool \[4, 4\], got torch.bool \[4, 3\]", history=Sequence(history.rows, history.mask[:, 1:]))
    refused(r"bool \[4, 4\], got torch.float32", history=Sequence(history.rows, history.mask.float()))
    without = {name: value for name, value in embeddings.items() if name != "history"}
    with pytest.raises(ValueError, match="sequence 'history' is missing"):
        model(dense, without)
    with pytest.raises(ValueError, match=r"missing \['item'\]"):
        model(dense, {name: value for name, value in embeddings.items() if name != "item"})
