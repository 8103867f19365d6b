"""What the Python ranks of a job have in common: a beginning, and an end that takes the whole job along."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from persia_core.config import ModelConfig
from persia_core.errors import PersiaError
from persia_core.exit_codes import ExitCode
from persia_core.launch.heartbeat import begin_heartbeat
from persia_core.launch.job import Job, RankRecord
from persia_core.launch.parent import end_with_parent
from persia_core.launch.roles import Roles

log = logging.getLogger(__name__)

_REMEDY = "read the job's log, then run the task again"


def run_rank(argv: list[str] | None, body: Callable[[Job, ModelConfig, int], None]) -> None:
    """Call `body` with the job of `argv[0]`, its configuration and the rank of this process.

    Any failure is written to the record of the rank and ends the whole MPI job by MPI_Abort.
    """
    begin_heartbeat()
    end_with_parent()  # mpiexec may be killed without a chance to end its ranks
    import mpi4py

    mpi4py.rc.thread_level = "multiple"
    from mpi4py import MPI

    arguments = sys.argv[1:] if argv is None else argv
    job = Job.model_validate_json(Path(arguments[0]).read_bytes())
    config = job.resolved()
    roles = Roles.of(config.cluster)
    rank = MPI.COMM_WORLD.Get_rank()
    role = roles.name(rank)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s [{role}] %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stdout,
        force=True,
    )
    record = RankRecord.begin(job.run_dir, rank, role)
    if MPI.COMM_WORLD.Get_size() != roles.ranks:
        _abort(job, record, ExitCode.ENVIRONMENT, "the job has another number of ranks than its plan", "")
    from persia_core import _native
    from persia_core.embedding.errors import as_persia_error

    try:
        body(job, config, rank)
    except PersiaError as error:
        _abort(job, record, error.exit_code, error.what, error.remedy)
    except (_native.ServerError, _native.TransportError) as failure:
        named = as_persia_error(failure)
        _abort(job, record, named.exit_code, named.what, named.remedy)
    except OSError as error:
        traceback.print_exc()
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            _abort(job, record, ExitCode.RANK_FAILED, f"{type(error).__name__}: {error}", _REMEDY)
        free = "free space or set PERSIA_HOME to a larger disk, then run the task again"
        _abort(job, record, ExitCode.DISK_FULL, f"{error}, in {job.run_dir}", free)
    except Exception as error:
        traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        _abort(job, record, ExitCode.RANK_FAILED, what, _REMEDY)


def _abort(job: Job, record: RankRecord, code: ExitCode, what: str, remedy: str) -> NoReturn:
    log.error("%s", what)
    record.fail(job.run_dir, code, what, remedy)
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(int(code))
    os._exit(int(code))  # MPI_Abort may return before the launcher has ended us
