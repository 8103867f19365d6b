"""What each rank of a job is: servers first, then embedding workers, then trainers."""

from dataclasses import dataclass
from typing import ClassVar

from persia_core.config.model import Cluster


@dataclass(frozen=True)
class Roles:
    """Which rank does what, and which embedding worker serves which trainer.

    Trainer t is served by embedding worker t % embedding_workers, so their numbers of trainers differ by one
    at most. Without embedding workers, each trainer does that work in its own process.
    """

    SERVER: ClassVar = "embedding server"
    WORKER: ClassVar = "embedding worker"
    TRAINER: ClassVar = "trainer"

    servers: int
    embedding_workers: int
    trainers: int

    @staticmethod
    def of(cluster: Cluster) -> "Roles":
        return Roles(cluster.servers, cluster.embedding_workers, cluster.trainers)

    @property
    def ranks(self) -> int:
        return self.servers + self.embedding_workers + self.trainers

    def rank_of_worker(self, worker: int) -> int:
        return self.servers + worker

    def rank_of_trainer(self, trainer: int) -> int:
        return self.servers + self.embedding_workers + trainer

    def worker_of(self, trainer: int) -> int:
        """The embedding worker that serves `trainer`."""
        return trainer % self.embedding_workers

    def trainers_of(self, worker: int) -> range:
        """The trainers that embedding worker `worker` serves, ascending."""
        return range(worker, self.trainers, self.embedding_workers)

    def name(self, rank: int) -> str:
        """The role and its number: embedding server 0, embedding worker 1, trainer 2."""
        if rank < self.servers:
            return f"{self.SERVER} {rank}"
        if rank < self.servers + self.embedding_workers:
            return f"{self.WORKER} {rank - self.servers}"
        return f"{self.TRAINER} {rank - self.servers - self.embedding_workers}"
