"""The network as it is trained: gradients come out as they would from leaves, and the verdict with them."""

import pytest
import torch
from torch import Tensor, nn

from persia_core.models.dnn import DNN
from persia_core.training.network import Place, TrainedNetwork
from tests.support.models import BlindToEmbeddings

DIMS = {"user": 4, "item": 3, "last": 3}
ROWS = 5
# Two features share a buffer, and stand in it in another order than in the configuration.
PLACES = [Place(1, 0, (ROWS, 4)), Place(0, 15, (ROWS, 3)), Place(0, 0, (ROWS, 3))]


def inputs() -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, 2, generator=generator), [
        torch.randn(30, generator=generator),
        torch.randn(20, generator=generator),
    ]


def features(buffers: list[Tensor]) -> dict[str, Tensor]:
    user = buffers[1].reshape(ROWS, 4)
    item, last = buffers[0][15:].reshape(ROWS, 3), buffers[0][:15].reshape(ROWS, 3)
    return {"user": user, "item": item, "last": last}


def test_gradients_equal_those_of_leaves() -> None:
    network = DNN(2, DIMS, hidden=(8,))
    dense, buffers = inputs()
    leaves = {name: value.clone().requires_grad_(True) for name, value in features(buffers).items()}
    expected_logits = network(dense, leaves)
    expected_logits.square().sum().backward()
    expected_dense = [parameter.grad.clone() for parameter in network.parameters()]

    trained = TrainedNetwork(network, list(DIMS))
    trained.zero_grad()
    logits = trained(dense, buffers, PLACES)
    assert torch.equal(logits, expected_logits)
    logits.square().sum().backward()
    found = features(trained.gradients)
    for name, leaf in leaves.items():
        assert torch.equal(found[name], leaf.grad), name
    for parameter, expected in zip(network.parameters(), expected_dense, strict=True):
        assert torch.equal(parameter.grad, expected)
    assert trained.outcome().tolist() == [0, 0]


def test_a_feature_that_is_not_used_has_zero_gradients_in_its_place() -> None:
    class OnlyItem(nn.Module):
        def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
            return embeddings["item"].sum(1)

    dense, buffers = inputs()
    trained = TrainedNetwork(OnlyItem(), list(DIMS))
    trained(dense, buffers, PLACES).sum().backward()
    assert torch.equal(trained.gradients[0], torch.cat([torch.zeros(15), torch.ones(15)]))
    assert torch.equal(trained.gradients[1], torch.zeros(20))


def test_a_network_that_ignores_its_embeddings_still_gives_a_verdict() -> None:
    dense, buffers = inputs()
    trained = TrainedNetwork(BlindToEmbeddings(2, DIMS), list(DIMS))
    trained(dense, buffers, PLACES).sum().backward()
    assert trained.outcome().tolist() == [0, 0]
    assert not torch.cat(trained.gradients).any()


def test_no_rows_are_no_problem() -> None:
    trained = TrainedNetwork(DNN(2, DIMS, hidden=(8,)), list(DIMS))
    places = [Place(index, 0, (0, dim)) for index, dim in enumerate(DIMS.values())]
    trained(torch.zeros(0, 2), [torch.zeros(0)] * 3, places).sum().backward()
    assert trained.outcome().tolist() == [0, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_verdict_tells_gradient_and_loss_apart(bad: float) -> None:
    class Spoilt(DNN):
        def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
            embeddings["last"].register_hook(lambda gradient: gradient * bad)
            logits: Tensor = super().forward(dense, embeddings)
            return logits

    dense, buffers = inputs()
    trained = TrainedNetwork(Spoilt(2, DIMS, hidden=(8,)), list(DIMS))
    trained(dense, buffers, PLACES).sum().backward()
    assert trained.outcome().tolist() == [1, 0]
    assert all(torch.isfinite(p.grad).all() for p in trained.network.parameters()), "only the verdict knows"

    trained = TrainedNetwork(DNN(2, DIMS, hidden=(8,)), list(DIMS))
    logits = trained(dense, buffers, PLACES)
    trained.loss_is_finite = torch.isfinite(torch.tensor(bad))
    logits.sum().backward()
    assert trained.outcome().tolist() == [0, 1]
