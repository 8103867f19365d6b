"""A batch and its pooled activations as a message from an embedding worker to its trainer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from persia_core.data.batch import HashedBatch
from persia_core.embedding.remote.message import Message
from persia_core.training.batches import TrainerBatch
from persia_core.training.order import SampleOrder, Step


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


def order_fields(order: SampleOrder) -> dict[str, Any]:
    """An order of samples as JSON can say it."""
    return {
        "rows": order.rows,
        "batch": order.batch,
        "epochs": order.epochs,
        "shuffle": order.shuffle,
        "seed": order.seed,
    }


def order_from(fields: dict[str, Any]) -> SampleOrder:
    """The order that `order_fields` was made of."""
    return SampleOrder(**fields)
