"""One trainer in this process, on a real worker with its server, without MPI."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persia_core import _native
from persia_core.config import ModelConfig
from persia_core.data.batch import HashedBatch
from persia_core.embedding.pipeline import EmbeddingPipeline
from persia_core.embedding.tables import feature_specs, table_indices, table_specs
from persia_core.training.dense import DenseTraining
from persia_core.training.dense_update import Lockstep
from persia_core.training.group import TrainerGroup
from persia_core.training.staging import BlockStaging, HostStaging, Staging, staging_for
from persia_core.training.step import StepResult, TrainingStep

CPU = torch.device("cpu")
IDS = 20  # of each table


@dataclass(frozen=True)
class Numbered:
    number: int
    data: HashedBatch


class OneTrainer:
    """The training step, and random batches that are a function of their number."""

    def __init__(
        self, config: ModelConfig, rows: int, device: torch.device = CPU, blocks: bool = False
    ) -> None:
        """With `blocks`, batches go to the CPU by the blocks in which they go to a GPU."""
        self.config = config
        self.rows = rows
        group = TrainerGroup(0, 1, device, None)
        self.dense = DenseTraining.build(config, device)
        self.plain = copy.deepcopy(self.dense.model)  # as it begins
        tables = table_indices(config)
        staging = staging_for(device, tables, config.training.staleness)
        self.staging: Staging = BlockStaging(device, tables, config.training.staleness) if blocks else staging
        self.step = TrainingStep(
            config, group, self.dense, Lockstep(group, self.dense.optimizer), self.staging
        )
        self.worker = _native.EmbeddingWorker(
            transport="in-process",
            servers=1,
            tables=table_specs(config),
            features=feature_specs(config),
            trainer=0,
            trainers=1,
            staleness=1024,
            combine=False,
            seed=config.training.seed,
            timeout_s=20.0,
        )
        self.worker.configure()

    def data(self, number: int) -> HashedBatch:
        """Batch `number`: one id per feature, but bags of 0 to 3 for the last feature."""
        rng = np.random.default_rng(number)
        bits = self.config.dataset.prefix_bits
        ids, offsets = [], []
        for index, feature in enumerate(self.config.id_features):
            last = index == len(self.config.id_features) - 1
            lengths = rng.integers(0, 4, self.rows) if last else np.ones(self.rows, dtype=np.int64)
            prefix = self.config.table(feature.table).prefix
            values = rng.integers(0, IDS, int(lengths.sum())).astype(np.uint64)
            ids.append(values + np.uint64(prefix << (64 - bits)))
            offsets.append(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        dense = rng.standard_normal((self.rows, len(self.config.dense_features))).astype(np.float32)
        labels = (rng.random(self.rows) < 0.5).astype(np.float32)
        return HashedBatch(labels, dense, ids, offsets)

    def lookup(self, number: int, data: HashedBatch) -> _native.Lookup:
        return self.worker.lookup(number, data.ids, data.offsets, True)

    def run(self, data: HashedBatch, lookup: _native.Lookup) -> StepResult:
        """One step; its gradients are not sent."""
        result = self.step.run(HostStaging().inputs(data, lookup), self.rows)
        if result.skip is None:
            self.step.apply()
        return result

    def train(self, steps: int) -> list[float]:
        """The whole way, pipeline and staging included; the mean loss of each step."""
        losses = []
        batches: Iterator[Numbered] = (Numbered(number, self.data(number)) for number in range(steps))
        with EmbeddingPipeline(self.worker, batches, self.config.training.staleness) as pipeline:
            for ready, inputs in self.staging.ahead(pipeline):
                result = self.step.run(inputs, self.rows)
                if result.skip is not None:
                    raise AssertionError(f"step {ready.batch.number} was skipped: {result.skip}")
                pipeline.update(ready, result.gradients, result.scale)
                self.step.apply()
                losses.append(result.loss / self.rows)
            pipeline.drain()
        return losses

    def state(self) -> dict[str, NDArray[Any]]:
        """All that was trained: dense parameters, and the rows of all ids by table."""
        found = {name: value.cpu().numpy() for name, value in self.dense.model.state_dict().items()}
        bits = self.config.dataset.prefix_bits
        for feature in self.config.id_features:
            table = self.config.table(feature.table)
            ids = np.arange(IDS, dtype=np.uint64) + np.uint64(table.prefix << (64 - bits))
            empty = np.empty(0, dtype=np.uint64)
            lookup = self.worker.lookup(
                0,
                [ids if f.name == feature.name else empty for f in self.config.id_features],
                [
                    np.arange(IDS + 1) if f.name == feature.name else np.zeros(IDS + 1, np.int64)
                    for f in self.config.id_features
                ],
                False,
            )
            index = [f.name for f in self.config.id_features].index(feature.name)
            found[table.name] = lookup.pooled[index].copy()
        return found
