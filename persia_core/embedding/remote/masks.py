"""The masks of sequences behind the other arrays of a message."""

import numpy as np
from numpy.typing import NDArray

from persia_core.embedding.remote.message import Message

Masks = list[NDArray[np.bool_] | None]


def with_masks(message: Message, masks: Masks) -> Message:
    """The message with the masks of the features that have one, bool [rows, length], and their places."""
    found = {feature: mask for feature, mask in enumerate(masks) if mask is not None}
    fields = message.fields | {"masks": list(found)}
    return Message(message.kind, fields, [*message.arrays, *(mask.view(np.uint8) for mask in found.values())])


def without_masks(message: Message) -> tuple[Message, dict[int, NDArray[np.bool_]]]:
    """The message that `with_masks` was given, and the masks by feature."""
    fields = dict(message.fields)
    features: list[int] = fields.pop("masks")
    first = len(message.arrays) - len(features)
    masks = {
        feature: array.view(np.bool_) for feature, array in zip(features, message.arrays[first:], strict=True)
    }
    return Message(message.kind, fields, message.arrays[:first]), masks
