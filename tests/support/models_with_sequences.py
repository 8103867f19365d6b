"""A dense network over sequences, as plain as can be; the trainers of a test job import it by path."""

import torch
from torch import Tensor, nn

from persia_core.models.dnn import DNN
from persia_core.models.sequence import Sequence


class PlacesThenDNN(nn.Module):
    """Each place of a sequence has a weight of its own; the weighted sum of its rows is a DNN's input."""

    def __init__(self, dense_dim: int, embedding_dims: dict[str, int], *, places: dict[str, int]) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(
            {name: torch.linspace(1.0, -0.5, length) for name, length in places.items()}
        )
        self.dnn = DNN(dense_dim, embedding_dims, hidden=(8,))

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor | Sequence]) -> Tensor:
        vectors = {name: self._vector(name, value) for name, value in embeddings.items()}
        logits: Tensor = self.dnn(dense, vectors)
        return logits

    def _vector(self, name: str, value: Tensor | Sequence) -> Tensor:
        if isinstance(value, Tensor):
            return value
        weights = self.weights[name] * value.mask
        summed: Tensor = (value.rows * weights.unsqueeze(2)).sum(1)
        return summed
