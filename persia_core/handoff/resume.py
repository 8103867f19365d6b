"""Bringing one object to a file so that a second attempt goes on where the first one was cut off.

What has arrived gathers in order in a file beside the target, whose name holds the SHA-256 that the object
is to have. Nothing here trusts those bytes: the caller checks the whole file before it is used.
"""

import errno
import fcntl
import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from persia_core.errors import DiskFull
from persia_core.handoff.manifest import Part
from persia_core.handoff.object_store import ObjectStore

logger = logging.getLogger(__name__)

PIECE_BYTES = 8 << 20  # fetched by one request; a part that is no larger is fetched anew
_AHEAD = 3  # requests under way for one part


def bring(store: ObjectStore, key: str, part: Part, target: Path) -> bool:
    """Bring the object `key`, which is `part`, to `target`; True if bytes of an earlier attempt are in it.

    Raises NotFound, StorageUnavailable (what has arrived stays for the next attempt) and DiskFull (it does
    not stay). Size and SHA-256 are left to the caller.
    """
    if part.size <= PIECE_BYTES:
        store.download(key, target)
        return False
    partial = target.with_name(f".{target.name}.{part.sha256[:16]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(partial) as file:
            if file is not None:
                return _go_on(store, key, part, file, partial, target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        partial.unlink(missing_ok=True)
        raise DiskFull(f"no space left writing {target}", "free space there and run again") from error
    store.download(key, target)  # another process brings the same part to the same place
    return False


def _go_on(store: ObjectStore, key: str, part: Part, file: BinaryIO, partial: Path, target: Path) -> bool:
    start = file.seek(0, os.SEEK_END)
    if start > part.size:
        start = file.truncate(0)
    if start:
        logger.info("%s goes on at byte %d of %d", store.uri(key), start, part.size)
    for piece in _pieces(store, key, start, part.size):
        file.write(piece)
    file.flush()
    os.fsync(file.fileno())
    partial.replace(target)
    return start > 0


def _pieces(store: ObjectStore, key: str, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from `start` to `stop` in order, a few requests ahead of whoever takes them."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="pieces") as pool:
        try:
            for first in range(start, stop, PIECE_BYTES):
                waiting.append(pool.submit(store.read, key, first, min(first + PIECE_BYTES, stop)))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO | None]:
    """The file, to append to; None while another process has it. A link in its place is not followed."""
    if path.is_symlink():
        path.unlink()
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = path.samefile(f"/proc/self/fd/{file.fileno()}")  # else it has become somebody's target
        except (BlockingIOError, FileNotFoundError):
            ours = False
        yield file if ours else None
