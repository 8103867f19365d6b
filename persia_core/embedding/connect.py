"""The native embedding worker of one trainer, connected to the servers of its job."""

from persia_core._native import EmbeddingWorker
from persia_core.config import ModelConfig
from persia_core.embedding.tables import feature_specs, table_specs


def connect_worker(config: ModelConfig, trainer: int, number: int = 0) -> EmbeddingWorker:
    """The worker that speaks for `trainer`; there can be one in the life of the servers.

    `number` tells the workers of one rank apart, from 0 on.
    """
    return EmbeddingWorker(
        transport="mpi",
        servers=config.cluster.servers,
        tables=table_specs(config),
        features=feature_specs(config),
        trainer=trainer,
        trainers=config.cluster.trainers,
        staleness=config.training.staleness,
        combine=config.training.combines,
        seed=config.training.seed,
        timeout_s=config.cluster.timeout_s,
        number=number,
        delay_s=config.cluster.simulated_network_delay_ms / 1000,
        wire_values=config.cluster.wire_values,
    )
