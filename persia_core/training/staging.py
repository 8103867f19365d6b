"""The way of a batch to the device of the dense network, and of the gradients back."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persia_core._native import Lookup
from persia_core.data.batch import HashedBatch
from persia_core.training.network import Place


@dataclass(frozen=True)
class Inputs:
    """A batch on the device: dense float32 [n, D], labels float32 [n], activations as flat buffers."""

    dense: Tensor
    labels: Tensor
    buffers: list[Tensor]
    places: list[Place]


class HostStaging:
    """On the CPU nothing is copied: tensors are the worker's own memory."""

    def to_device(self, data: HashedBatch, lookup: Lookup) -> Inputs:
        """The batch as tensors."""
        buffers, places = activations(lookup)
        dense, labels = torch.from_numpy(data.dense), torch.from_numpy(data.labels)
        return Inputs(dense, labels, [torch.from_numpy(each) for each in buffers], places)

    def to_host(
        self, gradients: list[Tensor], places: list[Place], report: Tensor
    ) -> tuple[list[NDArray[np.float32]], list[float]]:
        """The gradient of each feature, in its shape, and the numbers of `report`."""
        return by_feature([gradient.numpy() for gradient in gradients], places), report.tolist()


def activations(lookup: Lookup) -> tuple[list[NDArray[np.float32]], list[Place]]:
    """Flat buffers of a lookup, and where each feature lies in them."""
    places = [Place(index, 0, pooled.shape) for index, pooled in enumerate(lookup.pooled)]
    return [pooled.reshape(-1) for pooled in lookup.pooled], places


def by_feature(buffers: list[NDArray[np.float32]], places: list[Place]) -> list[NDArray[np.float32]]:
    """Views of flat buffers, one per feature, in its shape."""
    return [
        buffers[place.buffer][place.offset : place.offset + math.prod(place.shape)].reshape(place.shape)
        for place in places
    ]
