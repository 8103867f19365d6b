"""DeepFM: a factorization machine and an MLP over shared embeddings (Guo et al., 1703.04247)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from persia_core.models._layers import check_arguments, check_inputs, equal_dim, mlp


class DeepFM(nn.Module):
    """logit = bias + first-order terms + sum over pairs of <v_i, v_j> + MLP of all v_i and dense.

    The paper's per-id scalar weight is the first coordinate of the embedding, and its latent
    vector v_i the other `dim - 1`: both live in one row. A dense feature x_j has a weight of
    its own and the latent vector x_j * u_j. A bag pooled by sum is an FM over its members,
    without the pairs inside the bag.
    """

    def __init__(
        self,
        dense_dim: int,
        embedding_dims: dict[str, int],
        *,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            dense_dim: number of dense features, may be 0.
            embedding_dims: feature name -> dim of its pooled embedding, in feature order.
            hidden: sizes of the MLP's hidden layers; the logit follows.
            dropout: probability of zeroing a hidden unit in training, in [0, 1).

        Raises:
            ValueError: an argument is out of range, the dims differ, or they are below 2.
        """
        super().__init__()
        check_arguments(dense_dim, embedding_dims, {"hidden": hidden}, dropout)
        dim = equal_dim(embedding_dims, "DeepFM")
        if dim < 2:
            raise ValueError("DeepFM needs embeddings of dim 2 or more: a weight and a vector")
        self.dense_dim = dense_dim
        self.embedding_dims = dict(embedding_dims)
        self.dense_weight = nn.Parameter(torch.zeros(dense_dim))
        self.dense_vectors = nn.Parameter(torch.randn(dense_dim, dim - 1) * 0.01)
        width = dense_dim + len(embedding_dims) * (dim - 1)
        # The bias of the MLP's last layer is the model's bias.
        self.deep = mlp((width, *hidden, 1), dropout, activate_last=False)

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
        rows = torch.stack(parts, dim=1)
        weights, vectors = rows[:, :, 0], rows[:, :, 1:]
        first_order = weights.sum(dim=1) + (dense * self.dense_weight).sum(dim=1)
        deep: Tensor = self.deep(torch.cat([dense, vectors.flatten(start_dim=1)], dim=1))
        fields = torch.cat([dense.unsqueeze(2) * self.dense_vectors, vectors], dim=1)
        return (first_order + self.pair_sum(fields) + deep.squeeze(1)).float()

    @staticmethod
    def pair_sum(fields: Tensor) -> Tensor:
        """[B, n, k] -> [B]: the sum over pairs i < j of <v_i, v_j>, in time linear in n."""
        square_of_sum = fields.sum(dim=1).square()
        sum_of_squares = fields.square().sum(dim=1)
        return 0.5 * (square_of_sum - sum_of_squares).sum(dim=1)
