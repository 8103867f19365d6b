"""Directories for what MPI keeps of a job, which a job that is killed does not remove."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/dev/shm")  # noqa: S108 - shared memory, not a temporary file
DIRECTORY_VARIABLE = "OMPI_MCA_btl_sm_backing_directory"  # where ranks are told of it
# Where mpiexec keeps its sockets, under a name made of its process id. What a killed one leaves there stops a
# later one with the same id from starting.
SESSION_VARIABLE = "PRTE_MCA_prte_tmpdir_base"


@contextlib.contextmanager
def segment_directory() -> Iterator[Path | None]:
    """A directory that is removed at the end; None if this host has no place for it.

    Whoever was killed before its end leaves its directory to the next one on the host to remove.
    """
    if not os.access(ROOT, os.W_OK):
        yield None
        return
    remove_abandoned()
    directory, lock = _create()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def environment_for(segments: Path | None) -> dict[str, str]:
    """What mpiexec is to be told of the directory."""
    return {} if segments is None else {DIRECTORY_VARIABLE: str(segments), SESSION_VARIABLE: str(segments)}


def shared_memory(otherwise: Path) -> Path:
    """The directory of the job that asks, a rank; `otherwise` if the host had no place for one."""
    return Path(os.environ.get(DIRECTORY_VARIABLE, otherwise))


def remove_abandoned() -> None:
    """Remove the directories of this user whose launcher has ended: the kernel has let go of their locks."""
    for directory in _all():
        remove_if_abandoned(directory)


def abandoned() -> list[Path]:
    """The directories of this user whose launcher has ended."""
    found = []
    for directory in _all():
        with contextlib.suppress(OSError), _locked(directory):
            found.append(directory)
    return found


def remove_if_abandoned(directory: Path) -> bool:
    """Remove `directory` unless its launcher lives; True if it is gone."""
    with contextlib.suppress(OSError), _locked(directory):  # in use, or removed by another just now
        shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _all() -> list[Path]:
    return sorted(ROOT.glob(f"{_prefix()}*"))


def _prefix() -> str:
    return f"persia-{os.getuid()}-"


def _create() -> tuple[Path, int]:
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_prefix(), dir=ROOT))
        try:
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Before it was locked, another launcher may have taken it for abandoned.
        if directory.exists():
            return directory, lock
        os.close(lock)
