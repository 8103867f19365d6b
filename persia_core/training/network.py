"""The dense network as a trainer runs it: activations come in as flat buffers, their gradients leave so."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from persia_core.models.sequence import named_embeddings


@dataclass(frozen=True)
class Place:
    """Where the activations of a feature lie: `shape` from `offset` on in flat buffer `buffer`.

    The features of a buffer lie one after another and fill it.
    """

    buffer: int
    offset: int
    shape: tuple[int, ...]


class TrainedNetwork(nn.Module):
    """A dense network that also learns, within its own backward pass, whether the step is to be skipped.

    The last thing that backward computes are the gradients of the activations. With them it makes the
    gradient of `verdict`, a parameter that nothing trains: [1 if a gradient of an activation is not finite,
    1 if the loss is not]. Where replicas average their gradients, the verdict goes along with the last of
    them, so the trainers agree at no cost; a dense gradient that is not finite is so on all of them anyway.
    """

    def __init__(self, network: nn.Module, names: list[str], precision: str = "float32") -> None:
        """`names` are those of the id features, in their order; `precision` is training.precision."""
        super().__init__()
        self.network = network
        self.verdict = nn.Parameter(torch.zeros(2))
        self.loss_is_finite: Tensor = torch.tensor(True)  # to be set between forward and backward
        self.gradients: list[Tensor] = []  # after backward: of each buffer, in its shape
        self._names = names
        self._dtype = getattr(torch, precision)

    def forward(
        self,
        dense: Tensor,
        buffers: list[Tensor],
        places: list[Place],
        masks: list[Tensor | None] | None = None,
    ) -> Tensor:
        """Logits, float32 [n], whatever the precision inside.

        `buffers` are flat float32; `places` says which part of them is which feature's. `masks` are those of
        the sequences among the features, see named_embeddings; None if there are none.
        """
        nothing, *features = _Exchange.apply(self.verdict, self, places, *buffers)  # type: ignore[no-untyped-call]
        with torch.autocast(dense.device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self.network(
                dense, named_embeddings(self._names, features, masks or [None] * len(features))
            )
        # A network may ignore its embeddings, and backward must reach _Exchange all the same.
        found: Tensor = logits.float() + nothing
        return found

    def outcome(self) -> Tensor:
        """The verdict of the last backward pass, averaged where replicas average; [0, 0] if all is well."""
        if self.verdict.grad is None:
            raise RuntimeError("there was no backward pass since gradients were cleared")
        return self.verdict.grad


class _Exchange(torch.autograd.Function):
    """Buffers in, features out; backward, the features' gradients in, and into `owner.gradients`."""

    @staticmethod
    def forward(
        ctx: Any, verdict: Tensor, owner: TrainedNetwork, places: list[Place], *buffers: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.owner, ctx.places, ctx.devices = owner, places, [each.device for each in buffers]
        ctx.set_materialize_grads(False)
        features = [
            buffers[place.buffer][place.offset : place.offset + math.prod(place.shape)].view(place.shape)
            for place in places
        ]
        return (verdict.new_zeros(()), *features)

    @staticmethod
    def backward(ctx: Any, _: Tensor | None, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        parts: list[list[tuple[int, Tensor]]] = [[] for _ in ctx.devices]
        for place, gradient in zip(ctx.places, gradients, strict=True):
            if gradient is None:  # the network does not use the feature
                flat = torch.zeros(math.prod(place.shape), device=ctx.devices[place.buffer])
            else:
                flat = gradient.reshape(-1)
            parts[place.buffer].append((place.offset, flat))
        joined = [_joined(each) for each in parts]
        finite = torch.stack([torch.isfinite(each).all() for each in joined]).all()
        ctx.owner.gradients = joined
        verdict = ~torch.stack([finite, ctx.owner.loss_is_finite])
        return (verdict.float(), None, None, *(None for _ in ctx.devices))


def _joined(parts: list[tuple[int, Tensor]]) -> Tensor:
    ordered = [gradient for _, gradient in sorted(parts, key=lambda part: part[0])]
    return ordered[0] if len(ordered) == 1 else torch.cat(ordered)
