"""DIN: Deep Interest Network, attention of a candidate over behaviours (Zhou et al., arXiv 1706.06978)."""

from collections.abc import Mapping
from collections.abc import Sequence as Sizes

import torch
from torch import Tensor, nn

from persia_core.models._layers import check_arguments, check_inputs, check_sequence, mlp
from persia_core.models.sequence import Sequence


class Attention(nn.Module):
    """sum over the places i that hold an id of a(e_i, v) e_i, with v the embedding of the candidate.

    The weight a is an MLP over [e_i, v, e_i - v, e_i * v]. Weights are not normalised, so that their sum
    says how strong the interest is (section 4.3 of the paper). An empty sequence gives zeros.
    """

    def __init__(self, dim: int, hidden: Sizes[int]) -> None:
        super().__init__()
        self.weight = mlp((4 * dim, *hidden, 1), 0.0, activate_last=False)

    def forward(self, behaviour: Sequence, candidate: Tensor) -> Tensor:
        """Rows [B, length, dim] with their mask, and [B, dim] -> [B, dim]."""
        rows = behaviour.rows
        target = candidate.unsqueeze(1).expand_as(rows)
        weights: Tensor = self.weight(torch.cat([rows, target, rows - target, rows * target], dim=2))
        weights = torch.where(behaviour.mask.unsqueeze(2), weights, 0.0)
        return (weights * rows).sum(dim=1)


class DIN(nn.Module):
    """The interest in the candidate that each behaviour shows, and all other features, through an MLP.

    A behaviour is a feature with pooling `sequence`; its candidate is a feature of the same dim, as a rule
    of the same table. The paper's Dice is left out: hidden layers have ReLU.
    """

    def __init__(
        self,
        dense_dim: int,
        embedding_dims: dict[str, int],
        *,
        behaviours: Mapping[str, str],
        attention: Sizes[int] = (64, 32),
        hidden: Sizes[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            dense_dim: number of dense features, may be 0.
            embedding_dims: feature name -> dim of its embedding rows, in feature order.
            behaviours: name of a sequence feature -> name of the feature that is its candidate.
            attention: sizes of the hidden layers that make a weight of a behaviour and the candidate.
            hidden: sizes of the MLP's hidden layers; the logit follows.
            dropout: probability of zeroing a hidden unit of that MLP in training, in [0, 1).

        Raises:
            ValueError: an argument is out of range, a name is no feature, or two dims differ.
        """
        super().__init__()
        check_arguments(dense_dim, embedding_dims, {"attention": attention, "hidden": hidden}, dropout)
        if not behaviours:
            raise ValueError("behaviours must name a sequence feature and its candidate")
        for behaviour, candidate in behaviours.items():
            for name in (behaviour, candidate):
                if name not in embedding_dims:
                    raise ValueError(f"behaviours: no feature is called {name!r}")
            if candidate in behaviours:
                raise ValueError(f"behaviours: candidate {candidate!r} is a sequence itself")
            if embedding_dims[behaviour] != embedding_dims[candidate]:
                raise ValueError(
                    f"{behaviour!r} has dim {embedding_dims[behaviour]} and its candidate {candidate!r} "
                    f"{embedding_dims[candidate]}: they must be equal"
                )
        self.dense_dim = dense_dim
        self.embedding_dims = dict(embedding_dims)
        self.behaviours = dict(behaviours)
        self.pooled_dims = {name: dim for name, dim in embedding_dims.items() if name not in behaviours}
        self.attention = nn.ModuleDict(
            {name: Attention(embedding_dims[name], attention) for name in behaviours}
        )
        width = dense_dim + sum(embedding_dims.values())
        self.layers = mlp((width, *hidden, 1), dropout, activate_last=False)

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor | Sequence]) -> Tensor:
        """
        Args:
            dense: [B, dense_dim] float32; B may be 0.
            embeddings: feature name -> [B, dim] float32, of a behaviour a Sequence; in any order.

        Returns:
            [B] float32 logits.

        Raises:
            ValueError: a feature is missing or unknown, a shape is not as declared, or a feature is a
                sequence that should not be one, or the other way round.
        """
        others = {name: value for name, value in embeddings.items() if name not in self.behaviours}
        parts = check_inputs(dense, others, self.dense_dim, self.pooled_dims)
        for name, candidate in self.behaviours.items():
            behaviour = check_sequence(name, embeddings, dense.shape[0], self.embedding_dims[name])
            target = embeddings[candidate]
            parts.append(self.attention[name](behaviour, target))
        logits: Tensor = self.layers(torch.cat([dense, *parts], dim=1))
        return logits.squeeze(1).float()
