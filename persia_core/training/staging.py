"""The way of a batch to the device of the dense network, and of the gradients back.

On the CPU nothing is copied. To a GPU a batch goes as one block of pinned memory, on a stream of its own and
ahead of its use; the gradients of a table come back as one block. The host waits for events of its own
copies, never for the whole device.
"""

import contextlib
import math
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persia_core.data.batch import HashedBatch
from persia_core.embedding.interface import LookedUp
from persia_core.training.network import Place

_ALIGNMENT = 256  # bytes, of what cudaMalloc returns: every array of a block begins so


@dataclass(frozen=True)
class Inputs:
    """A batch on the device: dense float32 [n, D], labels float32 [n], activations as flat buffers.

    `masks` are bool [n, length] of the features that are sequences, None of the others. `weights` are
    float32 [n], None if samples have none.
    """

    dense: Tensor
    labels: Tensor
    buffers: list[Tensor]
    places: list[Place]
    masks: list[Tensor | None]
    arrival: Any = None  # the event to wait for before use
    weights: Tensor | None = None


class HasLookup(Protocol):
    """A batch whose activations have arrived, as the pipeline gives it."""

    @property
    def batch(self) -> Any: ...
    @property
    def lookup(self) -> LookedUp: ...


Ready = TypeVar("Ready", bound=HasLookup)


class Staging(Protocol):
    """What the training step needs of a device."""

    def ahead(self, batches: Iterable[Ready]) -> Iterator[tuple[Ready, Inputs]]:
        """The batches, each with its inputs, which are on their way while earlier batches are computed."""

    def use(self, inputs: Inputs) -> None:
        """To be called before the first computation with them."""

    def to_host(
        self, gradients: list[Tensor], places: list[Place], report: Tensor
    ) -> tuple[list[NDArray[np.float32]], list[float]]:
        """The gradient of each feature, in its shape, and the numbers of `report`, float32 [n]."""


def staging_for(device: torch.device, tables: list[int], staleness: int) -> Staging:
    """The way to `device`. `tables` is the table of each id feature."""
    return HostStaging() if device.type == "cpu" else BlockStaging(device, tables, staleness)


class HostStaging:
    """On the CPU tensors are the worker's own memory."""

    def ahead(self, batches: Iterable[Ready]) -> Iterator[tuple[Ready, Inputs]]:
        for ready in batches:
            yield ready, self.inputs(ready.batch.data, ready.lookup)

    def inputs(self, data: HashedBatch, lookup: LookedUp) -> Inputs:
        """The batch as tensors."""
        places = [Place(index, 0, pooled.shape) for index, pooled in enumerate(lookup.pooled)]
        buffers = [torch.from_numpy(pooled.reshape(-1)) for pooled in lookup.pooled]
        masks = [None if mask is None else torch.from_numpy(mask) for mask in lookup.masks]
        weights = None if data.weights is None else torch.from_numpy(data.weights)
        dense, labels = torch.from_numpy(data.dense), torch.from_numpy(data.labels)
        return Inputs(dense, labels, buffers, places, masks, weights=weights)

    def use(self, inputs: Inputs) -> None:
        pass

    def to_host(
        self, gradients: list[Tensor], places: list[Place], report: Tensor
    ) -> tuple[list[NDArray[np.float32]], list[float]]:
        return _by_feature([gradient.numpy() for gradient in gradients], places), report.tolist()


class BlockStaging:
    """By blocks of pinned memory to a GPU; to the CPU by plain copies of the same blocks, for tests."""

    def __init__(self, device: torch.device, tables: list[int], staleness: int) -> None:
        self._device = device
        # Of each table that has features: these, in order. They share a buffer.
        self._features = [[f for f, t in enumerate(tables) if t == table] for table in sorted(set(tables))]
        self._cuda = device.type == "cuda"
        self._up = _stream(device)
        self._down = _stream(device)
        # A block of gradients is in use until its update is acknowledged, which is when its batch gives its
        # permit back, and there are `staleness` permits; one more, so that nothing depends on it.
        self._sent = [_Block(self._cuda) for _ in range(2)]
        self._returned = [_Block(self._cuda) for _ in range(staleness + 1)]
        self._sends = self._returns = 0

    def ahead(self, batches: Iterable[Ready]) -> Iterator[tuple[Ready, Inputs]]:
        staged: queue.Queue[tuple[Ready, Inputs] | BaseException | None] = queue.Queue(maxsize=1)
        stop = threading.Event()

        def put(item: tuple[Ready, Inputs] | BaseException | None) -> None:
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    staged.put(item, timeout=0.1)
                    return

        def stage() -> None:
            try:
                for ready in batches:
                    if stop.is_set():
                        return
                    put((ready, self.inputs(ready.batch.data, ready.lookup)))
                put(None)
            except BaseException as error:  # carried over to the caller's thread
                put(error)

        # A daemon: it may wait for a batch that never comes, when the caller has failed.
        thread = threading.Thread(target=stage, name="staging", daemon=True)
        thread.start()
        try:
            while (item := staged.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()

    def inputs(self, data: HashedBatch, lookup: LookedUp) -> Inputs:
        """Begin to copy a batch; its block is used again for the second batch after it."""
        block = self._sent[self._sends % len(self._sent)]
        self._sends += 1
        block.wait()
        pooled = lookup.pooled
        tables = [[pooled[feature] for feature in group] for group in self._features]
        sequences = {feature: mask for feature, mask in enumerate(lookup.masks) if mask is not None}
        samples = [[data.dense], [data.labels], *([] if data.weights is None else [[data.weights]])]
        spans = block.pack([*samples, *tables, *([mask] for mask in sequences.values())])
        with self._on(self._up):
            memory = block.memory[: block.used].to(self._device, non_blocking=True, copy=True)
            block.copied = self._event()
        arrays = [memory[begin:end] for begin, end in spans]
        of_masks = arrays[len(arrays) - len(sequences) :]
        dense, labels, *buffers = [
            array.view(torch.float32) for array in arrays[: len(arrays) - len(sequences)]
        ]
        weights = None if data.weights is None else buffers.pop(0)
        masks: list[Tensor | None] = [None] * len(pooled)
        for array, (feature, mask) in zip(of_masks, sequences.items(), strict=True):
            masks[feature] = array.view(torch.bool).view(mask.shape)
        places: dict[int, Place] = {}
        for index, group in enumerate(self._features):
            offset = 0
            for feature in group:
                places[feature] = Place(index, offset, pooled[feature].shape)
                offset += pooled[feature].size
        in_order = [places[feature] for feature in range(len(places))]
        return Inputs(dense.view(data.dense.shape), labels, buffers, in_order, masks, block.copied, weights)

    def use(self, inputs: Inputs) -> None:
        if self._cuda:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(inputs.arrival)
            inputs.dense.record_stream(stream)  # all are views of one allocation

    def to_host(
        self, gradients: list[Tensor], places: list[Place], report: Tensor
    ) -> tuple[list[NDArray[np.float32]], list[float]]:
        block = self._returned[self._returns % len(self._returned)]
        self._returns += 1
        pieces = [*gradients, report.detach().float()]
        spans = block.reserve([4 * piece.numel() for piece in pieces])
        if self._down is not None:
            self._down.wait_stream(torch.cuda.current_stream(self._device))
        hosts = []
        with self._on(self._down):
            for piece, (begin, end) in zip(pieces, spans, strict=True):
                host = block.memory[begin:end].view(torch.float32)
                host.copy_(piece, non_blocking=True)
                if self._down is not None:
                    piece.record_stream(self._down)
                hosts.append(host)
            block.copied = self._event()
        block.wait()
        *flat, numbers = [host.numpy() for host in hosts]
        return _by_feature(flat, places), numbers.tolist()

    def _on(self, stream: Any) -> Any:
        return contextlib.nullcontext() if stream is None else torch.cuda.stream(stream)

    def _event(self) -> Any:
        if not self._cuda:
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event


class _Block:
    """Host memory that grows to what is asked of it, pinned for a GPU, and the event of its last copy."""

    def __init__(self, pinned: bool) -> None:
        self._pinned = pinned
        self.memory = torch.empty(0, dtype=torch.uint8)
        self.used = 0
        self.copied: Any = None

    def wait(self) -> None:
        """Until the last copy from or to the block is done."""
        if self.copied is not None:
            self.copied.synchronize()

    def reserve(self, sizes: list[int]) -> list[tuple[int, int]]:
        """Begin and end, in bytes, of arrays of these sizes."""
        spans, end = [], 0
        for size in sizes:
            begin = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = begin + size
            spans.append((begin, end))
        self.used = end
        if end > self.memory.numel():
            self.memory = torch.empty(end + end // 4, dtype=torch.uint8, pin_memory=self._pinned)
        return spans

    def pack(self, groups: list[list[NDArray[Any]]]) -> list[tuple[int, int]]:
        """Copy arrays into the block, those of a group without gaps; where each group lies, in bytes."""
        spans = self.reserve([sum(array.nbytes for array in group) for group in groups])
        for group, (begin, end) in zip(groups, spans, strict=True):
            flat = [torch.from_numpy(array.reshape(-1).view(np.uint8)) for array in group]
            torch.cat(flat, out=self.memory[begin:end])
        return spans


def _stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def _by_feature(buffers: list[NDArray[np.float32]], places: list[Place]) -> list[NDArray[np.float32]]:
    """Views of flat buffers, one per feature, in its shape."""
    return [
        buffers[place.buffer][place.offset : place.offset + math.prod(place.shape)].reshape(place.shape)
        for place in places
    ]
