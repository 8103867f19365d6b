"""What every trainer rank runs: `python -m persia_core.training.main JOB_FILE` under mpiexec."""

from persia_core.config import ModelConfig
from persia_core.launch.job import Job
from persia_core.launch.rank_program import run_rank
from persia_core.launch.roles import Roles


def main(argv: list[str] | None = None) -> None:
    """Take part in the job of `argv[0]`; any failure ends the whole MPI job by MPI_Abort."""
    run_rank(argv, _train)


def _train(job: Job, config: ModelConfig, rank: int) -> None:
    from persia_core.training.run import run_trainer

    run_trainer(job, config, rank - Roles.of(config.cluster).rank_of_trainer(0))


if __name__ == "__main__":
    main()
