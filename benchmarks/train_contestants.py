"""What trains in the training benchmark: the same dense network, on rows from four places.

The network is DLRM with 26 features and 13 dense values, bottom MLP 13-512-256-dim, dot products, top MLP
512-256-1; dense optimizer Adagrad. All of them compute its gradients with respect to the rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.batches import Batch, ids_of, make_batches
from benchmarks.contestants.table import EPSILON, LEARNING_RATE
from benchmarks.sizes import FEATURES
from persia_core.config import ModelConfig
from persia_core.data.batch import HashedBatch
from persia_core.embedding.connect import connect_worker
from persia_core.embedding.pipeline import EmbeddingPipeline
from persia_core.embedding.priority import Priority
from persia_core.models.dlrm import DLRM
from persia_core.training.dense import DenseTraining
from persia_core.training.dense_update import dense_update
from persia_core.training.group import TrainerGroup
from persia_core.training.staging import HostStaging
from persia_core.training.step import TrainingStep

DENSE = 13
STALENESS = 4
THREADS = 2
NAMES = [f"c{number}" for number in range(FEATURES)]
MLPS = {"bottom_mlp": [512, 256], "top_mlp": [512, 256]}
DENSE_RATE = 0.01


@dataclass(frozen=True)
class Step:
    """The ids of a step, feature by feature, its dense values and its labels."""

    ids: Batch
    data: HashedBatch


class Batches:
    """Steps for every round, drawn beforehand: Zipf ids, feature by feature."""

    def __init__(self, rows: int, samples: int, steps: int, rounds: int) -> None:
        self.samples = samples
        self._steps = steps
        rng = np.random.default_rng(1)
        offsets = np.arange(samples + 1, dtype=np.int64)
        self._all = []
        for batch in make_batches("zipf", rows, steps * min(rounds, 3), samples * FEATURES, seed=rows):
            ids = [np.ascontiguousarray(part) for part in batch.ids.reshape(FEATURES, samples)]
            dense = rng.standard_normal((samples, DENSE), dtype=np.float32)
            labels = rng.integers(0, 2, samples).astype(np.float32)
            self._all.append(Step(batch, HashedBatch(labels, dense, ids, [offsets] * FEATURES)))

    def take(self, number: int) -> list[Step]:
        """The steps of round `number`, starting anew when all have been taken."""
        start = number * self._steps % len(self._all)
        return self._all[start : start + self._steps]


class Trained(Protocol):
    """Something that trains."""

    def train(self, steps: list[Step]) -> None:
        """Take the steps one after another, and return when everything they changed is changed."""


class _Dense:
    """The dense network and its optimizer, as plain PyTorch."""

    def __init__(self, dim: int) -> None:
        torch.manual_seed(0)
        self.model = DLRM(DENSE, dict.fromkeys(NAMES, dim), **MLPS)  # type: ignore[arg-type]
        self.optimizer = torch.optim.Adagrad(self.model.parameters(), lr=DENSE_RATE)

    def step(self, data: HashedBatch, features: dict[str, Tensor]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(torch.from_numpy(data.dense), features)
        loss = binary_cross_entropy_with_logits(logits, torch.from_numpy(data.labels))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


class Ceiling:
    """The dense part alone: the rows are always the same, and their gradients go nowhere."""

    def __init__(self, dim: int) -> None:
        self._dense = _Dense(dim)
        self._dim = dim

    def train(self, steps: list[Step]) -> None:
        torch.set_num_threads(THREADS)
        rows = 0.01 * torch.randn(FEATURES, steps[0].data.rows, self._dim)
        for step in steps:
            features = [each.detach().requires_grad_() for each in rows]
            self._dense.step(step.data, dict(zip(NAMES, features, strict=True)))


class SparseTorch:
    """torch.nn.Embedding with sparse gradients, Adagrad elementwise. Row numbers instead of ids."""

    def __init__(self, rows: int, dim: int) -> None:
        self._dense = _Dense(dim)
        weights = torch.empty(rows, dim).uniform_(-0.01, 0.01)
        self._table = torch.nn.Embedding(rows, dim, sparse=True, _weight=weights)
        self._optimizer = torch.optim.Adagrad(self._table.parameters(), lr=LEARNING_RATE, eps=EPSILON)

    def train(self, steps: list[Step]) -> None:
        torch.set_num_threads(THREADS)
        for step in steps:
            self._optimizer.zero_grad(set_to_none=True)
            rows = self._table(torch.from_numpy(step.ids.rows)).unflatten(0, (FEATURES, -1))
            self._dense.step(step.data, dict(zip(NAMES, rows, strict=True)))
            self._optimizer.step()


class Fbgemm:
    """FBGEMM's table-batched embedding, exact row-wise Adagrad within backward. Row numbers, not ids."""

    def __init__(self, rows: int, dim: int, samples: int) -> None:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        self._dense = _Dense(dim)
        self._offsets = torch.arange(samples * FEATURES + 1)
        self._table = SplitTableBatchedEmbeddingBagsCodegen(
            [(rows, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)],
            feature_table_map=[0] * FEATURES,
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=LEARNING_RATE,
            eps=EPSILON,
            pooling_mode=PoolingMode.SUM,
        )
        self._table.init_embedding_weights_uniform(-0.01, 0.01)

    def train(self, steps: list[Step]) -> None:
        torch.set_num_threads(THREADS)
        for step in steps:
            pooled = self._table(torch.from_numpy(step.ids.rows), self._offsets)
            features = pooled.unflatten(1, (FEATURES, -1)).unbind(1)
            self._dense.step(step.data, dict(zip(NAMES, features, strict=True)))


class Ours:
    """The product: mode hybrid, rows on an embedding server of one thread, elementwise Adagrad."""

    def __init__(self, rows: int, dim: int, samples: int, directory: Path, priority: Priority) -> None:
        self._priority = priority
        self._config = _config(rows, dim, samples)
        self._group = TrainerGroup.join(0, 1, "cpu", directory / "rendezvous", 1, 60.0, 600.0)
        self._worker = connect_worker(self._config, 0)
        self._worker.configure()
        self._next = 0
        dense = DenseTraining.build(self._config, self._group.device)
        update = dense_update(self._config, self._group, dense, directory)
        self._staging = HostStaging()
        self._step = TrainingStep(self._config, self._group, dense, update, self._staging)
        self._fill(rows, samples)

    def _fill(self, rows: int, samples: int) -> None:
        offsets = np.arange(samples + 1, dtype=np.int64)
        for start in range(0, rows, samples * FEATURES):
            numbers: NDArray[np.int64] = np.arange(start, start + samples * FEATURES) % rows
            ids = [np.ascontiguousarray(part) for part in ids_of(numbers).reshape(FEATURES, samples)]
            lookup = self._worker.lookup(self._next, ids, [offsets] * FEATURES, True)
            self._worker.discard(lookup)
            self._next += 1

    def train(self, steps: list[Step]) -> None:
        torch.set_num_threads(THREADS)
        with EmbeddingPipeline(self._worker, iter(steps), STALENESS, self._next, self._priority) as pipeline:
            for ready, inputs in self._staging.ahead(pipeline):
                result = self._step.run(inputs, ready.batch.data.rows)
                if result.skip is not None:
                    raise RuntimeError(f"a step was skipped: {result.skip}")
                pipeline.update(ready, result.gradients, result.scale)
                self._step.apply()
            pipeline.drain()
        self._next += len(steps)

    def close(self) -> None:
        """End the server."""
        self._worker.shutdown()
        self._group.leave()


def _config(rows: int, dim: int, samples: int) -> ModelConfig:
    row_bytes = 8 * dim + 24
    return ModelConfig.model_validate(
        {
            "name": "bench",
            "dataset": {"name": "bench", "format": "csv"},
            "features": [
                *({"kind": "dense", "name": f"n{number}"} for number in range(DENSE)),
                *({"kind": "categorical", "name": name, "table": "bench"} for name in NAMES),
            ],
            "tables": [
                {
                    "name": "bench",
                    "prefix": 1,
                    "dim": dim,
                    "optimizer": {"kind": "adagrad", "learning_rate": LEARNING_RATE, "epsilon": EPSILON},
                    "capacity_bytes": rows * row_bytes,
                }
            ],
            "training": {
                "model": "persia_core.models.dlrm:DLRM",
                "model_args": MLPS,
                "mode": "hybrid",
                "staleness": STALENESS,
                "global_batch_size": samples,
                "dense_optimizer": {"name": "Adagrad", "args": {"lr": DENSE_RATE}},
            },
            "storage": {"url": "file:///tmp"},
        }
    )
