"""A batch and its pooled activations as a message from an embedding worker to its trainer."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persia_core.data.batch import HashedBatch
from persia_core.embedding.remote.message import Message
from persia_core.training.batches import TrainerBatch
from persia_core.training.order import SampleOrder, Step, Stretch


def encode_batch(batch: TrainerBatch, pooled: list[NDArray[np.float32]]) -> Message:
    """Everything that the trainer computes on; the ids stay with the embedding worker."""
    data = batch.data
    fields = {
        "step": batch.step.number,
        "epoch": batch.step.epoch,
        "total_weight": batch.total_weight,
        "weighted": data.weights is not None,
    }
    # A step's rows may be a view of a larger permutation.
    rows = np.ascontiguousarray(batch.step.rows)
    weights = [] if data.weights is None else [data.weights]
    return Message("ready", fields, [rows, data.labels, data.dense, *weights, *pooled])


def decode_batch(message: Message) -> tuple[TrainerBatch, list[NDArray[np.float32]]]:
    """The batch, without ids and offsets, and its pooled activations."""
    rows, labels, dense, *pooled = message.arrays
    fields = message.fields
    weights = pooled.pop(0) if fields["weighted"] else None
    step = Step(fields["step"], fields["epoch"], rows)
    return TrainerBatch(step, HashedBatch(labels, dense, [], [], weights), fields["total_weight"]), pooled


def stretch_fields(stretch: Stretch) -> dict[str, Any]:
    """A stretch of an order of samples as JSON can say it."""
    return {**asdict(stretch.order), "start": stretch.start, "stop": stretch.stop}


def stretch_from(fields: dict[str, Any]) -> Stretch:
    """The stretch that `stretch_fields` was made of."""
    order = {name: value for name, value in fields.items() if name not in ("start", "stop")}
    return Stretch(SampleOrder(**order), fields["start"], fields["stop"])
