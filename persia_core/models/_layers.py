"""What the dense networks share: a plain MLP and the checks of their arguments and inputs."""

import itertools
from collections.abc import Mapping
from collections.abc import Sequence as Sizes

import torch
from torch import Tensor, nn

from persia_core.models.sequence import Sequence


def mlp(sizes: Sizes[int], dropout: float, *, activate_last: bool) -> nn.Sequential:
    """Linear layers from `sizes[0]` to `sizes[-1]`, with ReLU and dropout after each hidden one.

    `activate_last` says whether the last layer counts as hidden.
    """
    layers: list[nn.Module] = []
    for position, (width_in, width_out) in enumerate(itertools.pairwise(sizes)):
        layers.append(nn.Linear(width_in, width_out))
        if activate_last or position < len(sizes) - 2:
            layers.append(nn.ReLU())
            if dropout > 0.0:
                layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def check_arguments(
    dense_dim: int,
    embedding_dims: dict[str, int],
    hidden: dict[str, Sizes[int]],
    dropout: float,
) -> None:
    """Raise ValueError, naming the argument, where a network cannot be built."""
    if dense_dim < 0:
        raise ValueError(f"dense_dim must not be negative, got {dense_dim}")
    if not embedding_dims:
        raise ValueError("embedding_dims must name at least one feature")
    for name, dim in embedding_dims.items():
        if dim < 1:
            raise ValueError(f"embedding dim of feature {name!r} must be at least 1, got {dim}")
    for argument, sizes in hidden.items():
        if any(size < 1 for size in sizes):
            raise ValueError(f"{argument} sizes must be at least 1, got {list(sizes)}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def equal_dim(embedding_dims: dict[str, int], model: str) -> int:
    """The dim that all features share; ValueError, naming the dims, if they differ."""
    if len(set(embedding_dims.values())) != 1:
        raise ValueError(f"{model} needs embeddings of equal dim, got {embedding_dims}")
    return next(iter(embedding_dims.values()))


def check_inputs(
    dense: Tensor,
    embeddings: Mapping[str, Tensor | Sequence],
    dense_dim: int,
    embedding_dims: dict[str, int],
) -> list[Tensor]:
    """The embeddings in feature order; ValueError where a name or a shape is not as declared."""
    if dense.dim() != 2 or dense.shape[1] != dense_dim:
        raise ValueError(f"dense must be [B, {dense_dim}], got {list(dense.shape)}")
    if embeddings.keys() != embedding_dims.keys():
        missing = [name for name in embedding_dims if name not in embeddings]
        unknown = [name for name in embeddings if name not in embedding_dims]
        raise ValueError(f"embeddings do not match: missing {missing}, unknown {unknown}")
    return [
        _check_pooled(name, embeddings[name], dense.shape[0], dim) for name, dim in embedding_dims.items()
    ]


def _check_pooled(name: str, value: Tensor | Sequence, rows: int, dim: int) -> Tensor:
    if isinstance(value, Sequence):
        raise ValueError(
            f"feature {name!r} is a sequence here: give it another pooling, or take a model for it"
        )
    if value.shape != torch.Size((rows, dim)):
        raise ValueError(f"embedding of {name!r} must be [{rows}, {dim}], got {list(value.shape)}")
    return value


def check_sequence(name: str, embeddings: Mapping[str, Tensor | Sequence], rows: int, dim: int) -> Sequence:
    """The sequence called `name`; ValueError where it is missing, is pooled, or has another shape."""
    value = embeddings.get(name)
    if value is None:
        raise ValueError(f"embeddings do not match: sequence {name!r} is missing")
    if not isinstance(value, Sequence):
        raise ValueError(f"feature {name!r} must be a sequence: give it pooling: sequence")
    shape = value.rows.shape
    if value.rows.dim() != 3 or shape[0] != rows or shape[2] != dim:
        raise ValueError(f"rows of sequence {name!r} must be [{rows}, length, {dim}], got {list(shape)}")
    if value.mask.shape != shape[:2] or value.mask.dtype != torch.bool:
        raise ValueError(
            f"mask of sequence {name!r} must be bool {list(shape[:2])}, got {value.mask.dtype} "
            f"{list(value.mask.shape)}"
        )
    return value
