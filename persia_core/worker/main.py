"""What every embedding worker rank runs: `python -m persia_core.worker.main JOB_FILE` under mpiexec."""

from persia_core.config import ModelConfig
from persia_core.launch.job import Job
from persia_core.launch.rank_program import run_rank


def main(argv: list[str] | None = None) -> None:
    """Serve trainers of the job of `argv[0]`; any failure ends the whole MPI job by MPI_Abort."""
    run_rank(argv, _serve)


def _serve(job: Job, config: ModelConfig, rank: int) -> None:
    from persia_core.worker.serve import serve_trainers

    serve_trainers(job, config, rank)


if __name__ == "__main__":
    main()
