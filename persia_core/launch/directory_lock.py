"""A lock on a directory, which says who holds it and which the kernel lets go of when that process ends."""

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

LOCK = ".lock"


class Holder(BaseModel):
    """Who holds a lock. `since` is for people only, as this host's clock had it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    host: str
    since: datetime

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class Locked(Exception):
    """Somebody else has the lock; `holder` is None if that one has not written down yet who it is."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(str(holder))
        self.holder = holder


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make `directory` if need be and hold its lock alone. Raises Locked; never waits."""
    descriptor = _open(directory, fcntl.LOCK_EX)
    try:
        holder = Holder(pid=os.getpid(), host=socket.gethostname(), since=datetime.now(UTC))
        # What an earlier holder wrote may be longer: JSON may end in blanks, and the space stays taken.
        os.pwrite(descriptor, holder.model_dump_json().encode().ljust(256), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def shared(directory: Path) -> Iterator[None]:
    """Hold the lock of `directory` together with others who use it; the last one removes the directory."""
    descriptor = _open(directory, fcntl.LOCK_SH)
    try:
        yield
    finally:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def is_locked(directory: Path) -> bool:
    """True if somebody holds the lock of `directory` at this moment."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def empty(directory: Path) -> None:
    """Remove all that is in `directory` but its lock."""
    for path in directory.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _open(directory: Path, kind: int) -> int:
    path = directory / LOCK
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue  # removed between the two calls
        try:
            # Who shares it waits for whoever removes it, which does not take long.
            fcntl.flock(descriptor, kind | (fcntl.LOCK_NB if kind == fcntl.LOCK_EX else 0))
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise Locked(holder) from None
        except BaseException:
            os.close(descriptor)
            raise
        # Whoever had it before may have removed the directory.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _holder(descriptor: int) -> Holder | None:
    try:
        return Holder.model_validate_json(os.pread(descriptor, 4096, 0))
    except ValidationError:
        return None
