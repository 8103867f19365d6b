"""The oracle of the whole system: the same model in plain PyTorch, one process, nn.EmbeddingBag.

It shares with the product only the dense module's class, the order of samples being that of the file,
and the initial rows; lookup, pooling, gradients and optimizers are torch's own.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from persia_core import _native
from persia_core.config import ModelConfig
from persia_core.embedding.tables import table_specs
from persia_core.models.sequence import Sequence
from persia_core.training.dense import build_model, build_optimizer

Rows = dict[int, NDArray[np.float32]]


class PlainModel:
    """One nn.EmbeddingBag per table over the ids that occur, and one torch optimizer per table."""

    def __init__(
        self,
        config: ModelConfig,
        table: pa.Table,
        dtype: torch.dtype = torch.float32,
        optimizers: bool = True,
    ) -> None:
        """Without `optimizers` a step leaves the rows alone, and their gradients in place."""
        self.config = config
        self.dense = build_model(config).to(dtype)
        self.dense_optimizer = build_optimizer(config, self.dense)
        self.labels = torch.tensor(table["label"].to_numpy(), dtype=dtype)
        weighted = config.dataset.weight is not None
        weights = table["weight"].to_numpy() if weighted else np.ones(table.num_rows)
        self.weights = torch.tensor(weights, dtype=dtype)
        columns = [table[feature.name].to_numpy() for feature in config.dense_features]
        dense = np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0))
        self.values = torch.tensor(dense, dtype=dtype)
        self.bags = {feature.name: _bags(table[feature.name]) for feature in config.id_features}
        self.ids: dict[str, list[int]] = {}
        self.embeddings: dict[str, nn.EmbeddingBag] = {}
        self.optimizers: list[torch.optim.Optimizer] = [self.dense_optimizer]
        for spec, entry in zip(table_specs(config), config.tables, strict=True):
            features = [f.name for f in config.id_features if f.table == entry.name]
            ids = sorted({id_ for name in features for bag in self.bags[name] for id_ in bag})
            initial = _native.initial_rows(spec, config.training.seed, np.array(ids, dtype=np.uint64))
            bag = nn.EmbeddingBag.from_pretrained(torch.tensor(initial, dtype=dtype), freeze=False)
            self.ids[entry.name] = ids
            self.embeddings[entry.name] = bag
            wanted = entry.optimizer
            if not optimizers:
                continue
            if wanted.kind == "adagrad":
                self.optimizers.append(
                    torch.optim.Adagrad(
                        bag.parameters(),
                        lr=wanted.learning_rate,
                        initial_accumulator_value=wanted.initial_accumulator,
                        eps=wanted.epsilon,
                    )
                )
            elif wanted.kind == "sgd":
                self.optimizers.append(torch.optim.SGD(bag.parameters(), lr=wanted.learning_rate))
            else:
                raise NotImplementedError(f"the oracle has no {wanted.kind} yet")

    def logits(self, rows: range) -> torch.Tensor:
        pooled: dict[str, torch.Tensor | Sequence] = {}
        for feature in self.config.id_features:
            position = {id_: index for index, id_ in enumerate(self.ids[feature.table])}
            bags = [self.bags[feature.name][row] for row in rows]
            flat = torch.tensor([position[id_] for bag in bags for id_ in bag], dtype=torch.int64)
            offsets = torch.tensor(np.cumsum([0, *map(len, bags)]), dtype=torch.int64)
            pooled[feature.name] = _pooled(
                self.embeddings[feature.table].weight,
                flat,
                offsets,
                self.config.pooling_of(feature),
                self.config.sequence_length_of(feature),
            )
        found: torch.Tensor = self.dense(self.values[rows.start : rows.stop], pooled)
        return found

    def step(self, rows: range) -> float:
        """One step of synchronous SGD on the weighted mean loss of `rows`; weights of 0 change nothing."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        losses = nn.functional.binary_cross_entropy_with_logits(
            self.logits(rows), self.labels[rows.start : rows.stop], reduction="none"
        )
        weights = self.weights[rows.start : rows.stop]
        loss = (weights * losses).sum() / (weights.sum() if weights.any() else 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        return float(loss.detach())

    def rows_of(self, table: str) -> Rows:
        weights = self.embeddings[table].weight.detach().float().numpy()
        return dict(zip(self.ids[table], weights, strict=True))


def _pooled(
    weight: torch.Tensor, flat: torch.Tensor, offsets: torch.Tensor, pooling: str, length: int | None
) -> torch.Tensor | Sequence:
    """Bags of positions in `weight`, by torch's own layers. `length` is of a sequence."""
    bags = [flat[low:high] for low, high in pairwise(offsets.tolist())]
    if length is not None:
        kept = [bag[-length:] for bag in bags]
        mask = torch.tensor([[place < len(bag) for place in range(length)] for bag in kept])
        padded = torch.stack([nn.functional.pad(bag, (0, length - len(bag))) for bag in kept])
        return Sequence(nn.functional.embedding(padded, weight) * mask.unsqueeze(2), mask)
    shares = None
    if pooling == "sqrtn":
        shares = torch.cat([torch.full((len(bag),), max(1, len(bag)) ** -0.5) for bag in bags]).to(weight)
        pooling = "sum"
    found: torch.Tensor = nn.functional.embedding_bag(
        flat, weight, offsets, mode=pooling, per_sample_weights=shares, include_last_offset=True
    )
    return found


def _bags(column: Any) -> list[list[int]]:
    unsigned = (1 << 64) - 1
    bags = []
    for value in column.to_pylist():
        ids = [] if value is None else value if isinstance(value, list) else [value]
        bags.append([id_ & unsigned for id_ in ids])
    return bags


def saved_rows(checkpoint: Path, table: str) -> Rows:
    """The rows of a table in all embedding parts of a checkpoint, read by the plain safetensors package."""
    rows: Rows = {}
    for path in sorted(checkpoint.glob("embedding-*.safetensors")):
        tensors = load_file(path)
        weights_of = tensors[f"{table}.weights"].float().numpy()
        for id_, weights in zip(tensors[f"{table}.ids"].tolist(), weights_of, strict=True):
            if id_ in rows:
                raise AssertionError(f"id {id_} stands in two parts")
            rows[id_] = weights
    return rows


def largest_relative_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """max |found - expected| / max |expected|, over one tensor."""
    scale = float(np.abs(expected).max())
    return float(np.abs(found.astype(np.float64) - expected).max()) / scale
