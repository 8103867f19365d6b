"""DLRM: Deep Learning Recommendation Model (Naumov et al., arXiv 1906.00091)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from persia_core.models._layers import check_arguments, check_inputs, equal_dim, mlp


class DLRM(nn.Module):
    """Pairwise dot products between embeddings and the projected dense features, then an MLP.

    The bottom MLP brings the dense features to the dim that all embeddings share. The top MLP
    reads the bottom's output and the dot product of every unordered pair of distinct vectors.
    With no dense features there is no bottom MLP, and the dot products are all it reads.
    """

    pairs: Tensor

    def __init__(
        self,
        dense_dim: int,
        embedding_dims: dict[str, int],
        *,
        bottom_mlp: Sequence[int] = (64,),
        top_mlp: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            dense_dim: number of dense features, may be 0.
            embedding_dims: feature name -> dim of its pooled embedding, in feature order.
            bottom_mlp: hidden sizes of the bottom MLP; a layer of the embedding dim follows.
            top_mlp: hidden sizes of the top MLP; the logit follows.
            dropout: probability of zeroing a hidden unit of the top MLP in training, in [0, 1).

        Raises:
            ValueError: an argument is out of range, the dims differ, or there is no pair.
        """
        super().__init__()
        hidden = {"bottom_mlp": bottom_mlp, "top_mlp": top_mlp}
        check_arguments(dense_dim, embedding_dims, hidden, dropout)
        dim = equal_dim(embedding_dims, "DLRM")
        vectors = len(embedding_dims) + (1 if dense_dim else 0)
        if vectors < 2:
            raise ValueError("DLRM needs two features to interact: one embedding, no dense feature")
        self.dense_dim = dense_dim
        self.embedding_dims = dict(embedding_dims)
        self.bottom: nn.Sequential | None = None
        if dense_dim:
            self.bottom = mlp((dense_dim, *bottom_mlp, dim), 0.0, activate_last=True)
        # Rows and columns below the diagonal; derived from the arguments, so not in state_dict.
        self.register_buffer("pairs", torch.tril_indices(vectors, vectors, -1), persistent=False)
        width = (dim if dense_dim else 0) + self.pairs.shape[1]
        self.top = mlp((width, *top_mlp, 1), dropout, activate_last=False)

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        """
        Args:
            dense: [B, dense_dim] float32; B may be 0.
            embeddings: feature name -> [B, dim] float32, in any order.

        Returns:
            [B] float32 logits.

        Raises:
            ValueError: a feature is missing or unknown, or a shape is not as declared.
        """
        vectors = check_inputs(dense, embeddings, self.dense_dim, self.embedding_dims)
        tops: list[Tensor] = []
        if self.bottom is not None:
            projected: Tensor = self.bottom(dense)
            vectors = [projected.to(vectors[0].dtype), *vectors]
            tops.append(projected)
        tops.append(self.interact(torch.stack(vectors, dim=1)))
        logits: Tensor = self.top(torch.cat(tops, dim=1))
        return logits.squeeze(1).float()

    def interact(self, vectors: Tensor) -> Tensor:
        """[B, n, dim] -> [B, n (n - 1) / 2]: dot products (1,0), (2,0), (2,1), (3,0), ..."""
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        return products[:, self.pairs[0], self.pairs[1]]
