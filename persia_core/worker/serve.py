"""Serving all trainers of one embedding worker, each by a thread and a native worker of its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from persia_core.config import ModelConfig
from persia_core.data.partition import LocalPartition, reopen_partition
from persia_core.embedding.connect import connect_worker
from persia_core.embedding.priority import run_at
from persia_core.embedding.remote.mpi_line import BATCHES_TAG, CONTROL_TAG, MpiLine
from persia_core.embedding.remote.service import TrainerService
from persia_core.errors import DataInvalid
from persia_core.launch.job import Job
from persia_core.launch.roles import Roles
from persia_core.training.batch_message import encode_batch, stretch_from
from persia_core.training.batches import TrainerBatch, trainer_batches


def serve_trainers(job: Job, config: ModelConfig, rank: int) -> None:
    """Serve until every trainer of this embedding worker has left.

    Raises the first error that could not be given to a trainer; the caller ends the job.
    """
    run_at(config.cluster.embedding_priority)  # the threads of all services inherit it
    roles = Roles.of(config.cluster)
    trainers = roles.trainers_of(rank - roles.rank_of_worker(0))
    services = [_service(job, config, roles, trainer, number) for number, trainer in enumerate(trainers)]
    pool = ThreadPoolExecutor(len(services), thread_name_prefix="serve")
    done, _ = wait([pool.submit(service.run) for service in services], return_when=FIRST_EXCEPTION)
    for each in done:
        each.result()  # the caller aborts the job, and with it the services that still run
    pool.shutdown()


def _service(
    job: Job, config: ModelConfig, roles: Roles, trainer: int, number: int
) -> TrainerService[TrainerBatch]:
    rank = roles.rank_of_trainer(trainer)
    control, batches = (MpiLine(rank, tag, roles.name(rank)) for tag in (CONTROL_TAG, BATCHES_TAG))
    # A partition keeps one decoded row group: trainers at different places must not share it.
    partition = reopen_partition(job.partition_dir, config)
    return TrainerService(
        connect_worker(config, trainer, number),
        control,
        batches,
        _source(config, partition, trainer),
        encode_batch,
        config.training.staleness,
        config.cluster.timeout_s,
        config.cluster.job_timeout_s,
    )


def _source(
    config: ModelConfig, partition: LocalPartition, trainer: int
) -> Callable[[dict[str, Any]], Iterator[TrainerBatch]]:
    def batches(fields: dict[str, Any]) -> Iterator[TrainerBatch]:
        stretch = stretch_from(fields)
        if (rows := stretch.order.rows) != partition.rows:
            raise DataInvalid(
                f"{partition.directory} has {partition.rows} rows here, {rows} for trainer {trainer}",
                "give all hosts of the job the same partition",
            )
        return trainer_batches(config, partition, stretch, trainer, config.cluster.trainers)

    return batches
