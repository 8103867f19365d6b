"""DCN V2: explicit feature crosses beside or before an MLP (Wang et al., arXiv 2008.13535)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from persia_core.models._layers import check_arguments, check_inputs, mlp


class FullRankCross(nn.Module):
    """x0 * (W x + b) + x, with W square: equation 1 of the paper."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        """[B, width], [B, width] -> [B, width]."""
        crossed: Tensor = x0 * self.linear(x) + x
        return crossed


class LowRankCross(nn.Module):
    """sum over experts i of G_i(x) * x0 * (U_i g(C_i g(V_i x)) + b) + x: equations 3 and 4.

    G is a softmax over the experts, g is tanh. Every expert works in a space of `rank` dimensions.
    """

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(experts, rank, width))
        self.inside = nn.Parameter(torch.empty(experts, rank, rank))
        self.up = nn.Parameter(torch.empty(experts, width, rank))
        self.bias = nn.Parameter(torch.zeros(width))
        self.gate = nn.Linear(width, experts)
        for stack in (self.down, self.inside, self.up):
            for matrix in stack:
                nn.init.xavier_normal_(matrix)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        """[B, width], [B, width] -> [B, width]."""
        low = torch.tanh(torch.einsum("erw,bw->ber", self.down, x))
        low = torch.tanh(torch.einsum("ers,bes->ber", self.inside, low))
        high = torch.einsum("ewr,ber->bew", self.up, low) + self.bias
        gates = torch.softmax(self.gate(x), dim=1)
        return x0 * torch.einsum("be,bew->bw", gates, high) + x


class DCNv2(nn.Module):
    """Cross layers over all features, each raising the degree of the crosses by one, and an MLP.

    `stacked`: the MLP reads the output of the cross layers. `parallel`: both read the features, and the
    logit is linear in both outputs. Embedding dims may differ from feature to feature.
    """

    def __init__(
        self,
        dense_dim: int,
        embedding_dims: dict[str, int],
        *,
        cross_layers: int = 2,
        structure: Literal["stacked", "parallel"] = "stacked",
        rank: int | None = None,
        experts: int = 1,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            dense_dim: number of dense features, may be 0.
            embedding_dims: feature name -> dim of its pooled embedding, in feature order.
            cross_layers: how many, at least 1.
            structure: "stacked" or "parallel".
            rank: of the low-rank cross layers; None makes full-rank ones.
            experts: of each low-rank cross layer.
            hidden: sizes of the MLP's hidden layers; the logit follows.
            dropout: probability of zeroing a hidden unit in training, in [0, 1).

        Raises:
            ValueError: an argument is out of range.
        """
        super().__init__()
        check_arguments(dense_dim, embedding_dims, {"hidden": hidden}, dropout)
        if structure not in ("stacked", "parallel"):
            raise ValueError(f"structure must be stacked or parallel, got {structure!r}")
        if cross_layers < 1:
            raise ValueError(f"cross_layers must be at least 1, got {cross_layers}")
        if (rank is not None and rank < 1) or experts < 1:
            raise ValueError(f"rank and experts must be at least 1, got {rank} and {experts}")
        if rank is None and experts > 1:
            raise ValueError("experts are of low-rank cross layers: give a rank too")
        self.dense_dim = dense_dim
        self.embedding_dims = dict(embedding_dims)
        self.structure = structure
        width = dense_dim + sum(embedding_dims.values())
        self.cross = nn.ModuleList(
            FullRankCross(width) if rank is None else LowRankCross(width, rank, experts)
            for _ in range(cross_layers)
        )
        self.deep = mlp((width, *hidden), dropout, activate_last=True)
        deep_width = hidden[-1] if hidden else width
        self.logit = nn.Linear(deep_width + (width if structure == "parallel" else 0), 1)

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
        features = torch.cat([dense, *parts], dim=1)
        crossed = features
        for layer in self.cross:
            crossed = layer(features, crossed)
        if self.structure == "stacked":
            last: Tensor = self.deep(crossed)
        else:
            last = torch.cat([crossed, self.deep(features)], dim=1)
        logits: Tensor = self.logit(last)
        return logits.squeeze(1).float()
