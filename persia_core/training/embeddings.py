"""The embeddings as a trainer sees them: its embedding worker is in this process or in another rank."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from persia_core._native import EmbeddingWorker
from persia_core.config import ModelConfig
from persia_core.data.partition import LocalPartition
from persia_core.embedding.connect import connect_worker
from persia_core.embedding.interface import Activations, Pipeline, Tables
from persia_core.embedding.pipeline import EmbeddingPipeline
from persia_core.embedding.remote.line import Line
from persia_core.embedding.remote.message import Message
from persia_core.embedding.remote.mpi_line import BATCHES_TAG, CONTROL_TAG, MpiLine
from persia_core.embedding.remote.pipeline import RemotePipeline, Waits
from persia_core.embedding.remote.tables import RemoteTables
from persia_core.launch.roles import Roles
from persia_core.training.batch_message import decode_batch, stretch_fields
from persia_core.training.batches import TrainerBatch, trainer_batches
from persia_core.training.order import Stretch


class Embeddings(Tables, Protocol):
    """What a trainer asks of its embedding worker."""

    def read(self, ids: list[NDArray[np.uint64]], offsets: list[NDArray[np.int64]]) -> Activations:
        """The activations of a batch for evaluation; arguments as in HashedBatch.

        Creates no rows and takes no permit; an id without a row reads as zeros.
        """

    def pipeline(self, stretch: Stretch) -> Pipeline[TrainerBatch]:
        """The trainer's shares of all steps of `stretch`, looked up for training.

        Stretches follow one another: the numbers of their batches, which are those of the steps, ascend.
        """

    def close(self) -> None:
        """Nothing more will be asked; to be called last, by every trainer."""


class LocalEmbeddings:
    """The embedding worker is in this process."""

    def __init__(
        self, worker: EmbeddingWorker, config: ModelConfig, partition: LocalPartition, trainer: int
    ) -> None:
        self._worker = worker
        self._config = config
        self._partition = partition
        self._trainer = trainer
        self.configure = worker.configure
        self.load = worker.load
        self.advance_day = worker.advance_day
        self.save = worker.save
        self.begin_save = worker.begin_save
        self.finish_save = worker.finish_save
        self.give_up_save = worker.give_up_save
        self.stats = worker.stats
        self.shutdown = worker.shutdown

    def read(self, ids: list[NDArray[np.uint64]], offsets: list[NDArray[np.int64]]) -> Activations:
        lookup = self._worker.lookup(0, ids, offsets, False)
        return Activations(lookup.pooled, lookup.masks)

    def pipeline(self, stretch: Stretch) -> Pipeline[TrainerBatch]:
        trainers = self._config.cluster.trainers
        batches = trainer_batches(self._config, self._partition, stretch, self._trainer, trainers)
        staleness, priority = self._config.training.staleness, self._config.cluster.embedding_priority
        return EmbeddingPipeline(self._worker, batches, staleness, stretch.start, priority=priority)

    def close(self) -> None:
        """There is nobody to tell."""


class RemoteEmbeddings(RemoteTables):
    """The embedding worker is another rank, which reads the batches too."""

    def __init__(self, control: Line, batches: Line, config: ModelConfig) -> None:
        cluster = config.cluster
        super().__init__(control, cluster.timeout_s)
        self._batches = batches
        self._waits = Waits.of(cluster.timeout_s, config.training.staleness, cluster.job_timeout_s)

    def pipeline(self, stretch: Stretch) -> Pipeline[TrainerBatch]:
        def start() -> None:
            self.call(Message("train", stretch_fields(stretch)))

        return RemotePipeline(start, self._batches, decode_batch, self._waits)


def connect(config: ModelConfig, partition: LocalPartition, trainer: int) -> Embeddings:
    """The embeddings for `trainer`, which is this rank of the job."""
    if config.cluster.embedding_workers == 0:
        return LocalEmbeddings(connect_worker(config, trainer), config, partition, trainer)
    roles = Roles.of(config.cluster)
    rank = roles.rank_of_worker(roles.worker_of(trainer))
    control, batches = (MpiLine(rank, tag, roles.name(rank)) for tag in (CONTROL_TAG, BATCHES_TAG))
    return RemoteEmbeddings(control, batches, config)
