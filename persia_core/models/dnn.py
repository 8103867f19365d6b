"""DNN: one MLP over everything, the deep half of Wide & Deep (Cheng et al., arXiv 1606.07792)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from persia_core.models._layers import check_arguments, check_inputs, mlp


class DNN(nn.Module):
    """Dense features and embeddings, concatenated, through one MLP to one logit.

    Embedding dims may differ from feature to feature.
    """

    def __init__(
        self,
        dense_dim: int,
        embedding_dims: dict[str, int],
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            dense_dim: number of dense features, may be 0.
            embedding_dims: feature name -> dim of its pooled embedding, in feature order.
            hidden: sizes of the hidden layers; empty means logistic regression.
            dropout: probability of zeroing a hidden unit in training, in [0, 1).

        Raises:
            ValueError: an argument is out of range.
        """
        super().__init__()
        check_arguments(dense_dim, embedding_dims, {"hidden": hidden}, dropout)
        self.dense_dim = dense_dim
        self.embedding_dims = dict(embedding_dims)
        width = dense_dim + sum(embedding_dims.values())
        self.layers = mlp((width, *hidden, 1), dropout, activate_last=False)

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
        parts = check_inputs(dense, embeddings, self.dense_dim, self.embedding_dims)
        logits: Tensor = self.layers(torch.cat([dense, *parts], dim=1))
        return logits.squeeze(1).float()
