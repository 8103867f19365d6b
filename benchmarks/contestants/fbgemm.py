"""FBGEMM's table-batched embedding on the CPU, exact row-wise Adagrad fused into its backward pass."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.batches import Batch
from benchmarks.contestants.table import EPSILON, LEARNING_RATE, Gradients, ReadableTable
from benchmarks.sizes import FEATURES


def missing() -> str | None:
    """Why it cannot take part, or None."""
    if importlib.util.find_spec("fbgemm_gpu") is None:
        return "fbgemm-gpu-cpu is not installed"
    return None


class _Fbgemm:
    def __init__(self, rows: int, dim: int, batch: int, threads: int, features: int) -> None:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
            BoundsCheckMode,
            EmbeddingLocation,
            PoolingMode,
        )
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        self._threads = threads
        self._features = features
        self._dim = dim
        self._offsets = torch.arange(batch + 1)
        self._module = SplitTableBatchedEmbeddingBagsCodegen(
            [(rows, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)],
            feature_table_map=[0] * features,
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=LEARNING_RATE,
            eps=EPSILON,
            pooling_mode=PoolingMode.SUM,
            # WARNING is what it does if nothing is said.
            bounds_check_mode=BoundsCheckMode.NONE if features == 1 else BoundsCheckMode.WARNING,
        )
        self._module.init_embedding_weights_uniform(-0.01, 0.01)

    def lookup(self, batch: Batch) -> None:
        torch.set_num_threads(self._threads)
        with torch.no_grad():
            self._module(torch.from_numpy(batch.rows), self._offsets)

    def step(self, batch: Batch, gradients: Gradients) -> None:
        torch.set_num_threads(self._threads)
        pooled = self._module(torch.from_numpy(batch.rows), self._offsets)
        # Of a sample, the features lie side by side.
        pooled.backward(torch.from_numpy(gradients).view(-1, self._features * self._dim))

    def read(self, batch: Batch) -> NDArray[np.float32]:
        with torch.no_grad():
            pooled = self._module(torch.from_numpy(batch.rows), self._offsets)
            by_feature = pooled.view(-1, self._features, self._dim).transpose(0, 1)
            weights: NDArray[np.float32] = by_feature.reshape(-1, self._dim).numpy()
            return weights


@contextmanager
def open_table(
    rows: int, dim: int, batch: int, threads: int, features: int = FEATURES
) -> Iterator[ReadableTable]:
    """A table that is an array: row numbers instead of ids, no hashing.

    `features` share the table, each with one id per sample: FEATURES is how a model of such batches calls
    it. One feature, of which every id is a sample, without a check of bounds, is the fastest way (tried).
    """
    yield _Fbgemm(rows, dim, batch, threads, features)
