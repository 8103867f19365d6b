"""The directories that a training stage writes on this host: whose they are, and what is wrong with them."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from persia_core.errors import DiskFull, EnvironmentProblem, RunLocked
from persia_core.launch.directory_lock import Locked, locked

FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def only_job_of(run_dir: Path) -> Iterator[None]:
    """Be the only job that works on this run. Raises RunLocked, which says who else does."""
    try:
        with locked(run_dir):
            yield
    except Locked as error:
        holder = error.holder or "another process that has just begun"
        raise RunLocked(
            f"{run_dir} is being trained by {holder}",
            "wait until that job has ended, then run this again: it finds the run finished; or end that job, "
            "or give this one another --run",
        ) from None


@contextlib.contextmanager
def working_files(work: Path) -> Iterator[None]:
    """Name what is wrong with the directory of working files; raises DiskFull, EnvironmentProblem."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            remedy = "free space or set PERSIA_HOME to a larger disk, then run again"
            raise DiskFull(f"no space left under {work}", remedy) from error
        if error.errno in NOT_WRITABLE and error.filename is not None:
            raise EnvironmentProblem(
                f"{error.filename} cannot be written: {error.strerror}",
                f"set PERSIA_HOME to a directory that can be written; now its working files are in {work}",
            ) from error
        raise
