"""The end of a log that may be long."""

import os
from pathlib import Path


def end_of_log(path: Path, limit: int) -> bytes:
    """All of a log of at most `limit` bytes; else a line that says how much is left out, and the end of it.

    That end has at most `limit` bytes, and begins with a line. Raises OSError where it cannot be read, and
    where it is a symbolic link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        file.seek(max(0, size - limit))
        data = file.read(limit)
    if size <= limit:
        return data
    whole = data.partition(b"\n")[2]
    return b"(the first %d bytes are left out)\n" % (size - len(whole)) + whole
