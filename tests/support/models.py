"""Dense networks that misbehave on purpose; the trainers of a test job import them by path."""

import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from persia_core.models.dnn import DNN


class NanOnMarkedBatch(DNN):
    """NaN logits for a batch in which any dense value exceeds `marker`."""

    def __init__(self, dense_dim: int, embedding_dims: dict[str, int], *, marker: float) -> None:
        super().__init__(dense_dim, embedding_dims, hidden=(8,))
        self.marker = marker

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        logits: Tensor = super().forward(dense, embeddings)
        if self.training and bool((dense > self.marker).any()):
            return logits * float("nan")
        return logits


class Slow(DNN):
    """Takes its time, so that there is a job to interfere with."""

    def __init__(self, dense_dim: int, embedding_dims: dict[str, int], *, seconds: float) -> None:
        super().__init__(dense_dim, embedding_dims, hidden=(8,))
        self.seconds = seconds

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        if self.training:
            time.sleep(self.seconds)
        logits: Tensor = super().forward(dense, embeddings)
        return logits


class BlindToEmbeddings(nn.Module):
    """Uses the dense features only: no embedding gets a gradient."""

    def __init__(self, dense_dim: int, embedding_dims: dict[str, int]) -> None:
        super().__init__()
        self.linear = nn.Linear(dense_dim, 1)

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        return torch.squeeze(self.linear(dense), 1)


class WaitsForTheOther(DNN):
    """Trainer 1 begins its first training batch when trainer 0 is at number `batches`, told by a file."""

    def __init__(self, dense_dim: int, embedding_dims: dict[str, int], *, path: str, batches: int) -> None:
        super().__init__(dense_dim, embedding_dims, hidden=(8,))
        self.path = Path(path)
        self.left = batches

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        if self.training:
            self.left -= 1
            if dist.get_rank() == 0 and self.left == 0:
                self.path.touch()
            while dist.get_rank() == 1 and not self.path.exists():
                time.sleep(0.01)
        logits: Tensor = super().forward(dense, embeddings)
        return logits


class OverflowOnMarkedBatch(DNN):
    """Infinite gradients of the embeddings alone for a batch in which any dense value exceeds `marker`."""

    def __init__(self, dense_dim: int, embedding_dims: dict[str, int], *, marker: float) -> None:
        super().__init__(dense_dim, embedding_dims, hidden=(8,))
        self.marker = marker

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        if self.training and bool((dense > self.marker).any()):
            for value in embeddings.values():
                value.register_hook(lambda gradient: gradient * float("inf"))
        logits: Tensor = super().forward(dense, embeddings)
        return logits
