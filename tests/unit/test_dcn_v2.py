"""DCN V2 against its equations, written out number by number in float64."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from persia_core.models.dcn_v2 import DCNv2, FullRankCross, LowRankCross

DIMS = {"user": 2, "item": 3}
Array = npt.NDArray[np.float64]
Structure = Literal["stacked", "parallel"]


def array(tensor: Tensor) -> Array:
    found: Array = tensor.detach().double().numpy()
    return found


def times(matrix: Array, vector: Array) -> Array:
    return np.array([math.fsum(m * v for m, v in zip(row, vector, strict=True)) for row in matrix])


def oracle_linear(layer: nn.Linear, x: Array) -> Array:
    return times(array(layer.weight), x) + array(layer.bias)


def oracle_cross(layer: nn.Module, x0: Array, x: Array) -> Array:
    if isinstance(layer, FullRankCross):
        inner = oracle_linear(layer.linear, x)
        return np.array([x0[i] * inner[i] + x[i] for i in range(len(x))])
    assert isinstance(layer, LowRankCross)
    scores = [math.exp(score) for score in oracle_linear(layer.gate, x)]
    out = x.copy()
    for expert, score in enumerate(scores):
        low = np.array([math.tanh(v) for v in times(array(layer.down[expert]), x)])
        low = np.array([math.tanh(v) for v in times(array(layer.inside[expert]), low)])
        high = times(array(layer.up[expert]), low) + array(layer.bias)
        for i in range(len(x)):
            out[i] += score / math.fsum(scores) * x0[i] * high[i]
    return out


def oracle(model: DCNv2, x0: Array) -> float:
    def deep(x: Array) -> Array:
        for layer in model.deep:
            if isinstance(layer, nn.Linear):
                x = np.array([max(value, 0.0) for value in oracle_linear(layer, x)])
        return x

    crossed = x0
    for layer in model.cross:
        crossed = oracle_cross(layer, x0, crossed)
    last = deep(crossed) if model.structure == "stacked" else np.concatenate([crossed, deep(x0)])
    return float(oracle_linear(model.logit, last)[0])


@pytest.mark.parametrize(("rank", "experts"), [(None, 1), (2, 1), (3, 4)])
@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize("dense_dim", [0, 2])
@pytest.mark.parametrize("hidden", [(6, 5), ()])
def test_dcn_v2_equals_its_equations(
    rank: int | None, experts: int, structure: Structure, dense_dim: int, hidden: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    arguments = {"cross_layers": 3, "rank": rank, "experts": experts, "hidden": hidden}
    model = DCNv2(dense_dim, DIMS, structure=structure, **arguments)  # type: ignore[arg-type]  # mixed values
    with torch.no_grad():  # biases that begin at 0 would be left out of the comparison
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    dense = torch.randn(7, dense_dim)
    embeddings = {name: torch.randn(7, dim) for name, dim in DIMS.items()}
    joined = torch.cat([dense, embeddings["user"], embeddings["item"]], dim=1)
    expected = [oracle(model, array(x0)) for x0 in joined]
    np.testing.assert_allclose(model(dense, embeddings).detach().numpy(), expected, 1e-5, 1e-5)


def test_one_cross_layer_raises_the_degree_by_one() -> None:
    """With the identity for a matrix and no bias, x -> x0 * x + x: a polynomial that is known by hand."""
    layer = FullRankCross(2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(2))
        layer.linear.bias.zero_()
    x0 = torch.tensor([[3.0, -2.0]])
    once = layer(x0, x0)
    assert once.tolist() == [[12.0, 2.0]]  # x^2 + x
    assert layer(x0, once).tolist() == [[48.0, -2.0]]  # (x + 1) (x^2 + x)


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
def test_every_weight_of_low_rank_layers_gets_a_gradient(structure: Structure) -> None:
    torch.manual_seed(2)
    model = DCNv2(1, DIMS, structure=structure, rank=2, experts=3)
    embeddings = {name: torch.randn(5, dim, requires_grad=True) for name, dim in DIMS.items()}
    model(torch.randn(5, 1), embeddings).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name
    for embedding in embeddings.values():
        assert embedding.grad is not None
        assert bool((embedding.grad.abs().sum(dim=1) > 0).all())


def test_arguments_that_make_no_network_are_refused() -> None:
    with pytest.raises(ValueError, match="structure must be stacked or parallel, got 'serial'"):
        DCNv2(1, DIMS, structure="serial")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="cross_layers must be at least 1, got 0"):
        DCNv2(1, DIMS, cross_layers=0)
    with pytest.raises(ValueError, match="at least 1, got 0 and 1"):
        DCNv2(1, DIMS, rank=0)
    with pytest.raises(ValueError, match="at least 1, got 2 and 0"):
        DCNv2(1, DIMS, rank=2, experts=0)
    with pytest.raises(ValueError, match="give a rank too"):
        DCNv2(1, DIMS, experts=2)
    with pytest.raises(ValueError, match="hidden sizes"):
        DCNv2(1, DIMS, hidden=(0,))
