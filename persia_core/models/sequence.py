"""What a model gets for a feature with pooling `sequence`: the rows of each bag, in order, and a mask."""

from typing import NamedTuple

from torch import Tensor


class Sequence(NamedTuple):
    """The embedding rows of n samples, `length` places for each.

    The ids of a bag fill the places from the first on, in the order of the bag. A bag of more than `length`
    ids keeps the last `length` of them, which are the most recent where a bag is a history.

    rows: float32 [n, length, dim]; a place without an id is zeros, and its gradient goes nowhere. An id
        that has no row is zeros too.
    mask: bool [n, length]; true where there is an id, so all false for an empty bag.

    A NamedTuple is a pytree: DistributedDataParallel, torch.export and torch.compile take it as it is.
    """

    rows: Tensor
    mask: Tensor


def named_embeddings(
    names: list[str], rows: list[Tensor], masks: list[Tensor | None]
) -> dict[str, Tensor | Sequence]:
    """The `embeddings` argument of a model: a Sequence for each feature that has a mask.

    Args:
        names: of the id features, in their order.
        rows: of each feature, float32 [n, dim], or [n, length, dim] where it has a mask.
        masks: of each feature, bool [n, length], or None where the bag is pooled to one vector.

    Raises:
        ValueError: the lists differ in length.
    """
    return {
        name: values if mask is None else Sequence(values, mask)
        for name, values, mask in zip(names, rows, masks, strict=True)
    }
