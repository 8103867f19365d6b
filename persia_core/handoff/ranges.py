"""An object of the store as a file that is read where it lies, by ranges of bytes."""

import io
from typing import TYPE_CHECKING, BinaryIO, cast

from persia_core.handoff.object_store import ObjectStore

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _StoredFile(io.RawIOBase):
    """Every read is a request of its own."""

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        self._store, self._key, self._size = store, key, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"{self._store.uri(self._key)} has no byte {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        stop = min(self._at + len(target), self._size)
        if stop <= self._at:
            return 0
        data = self._store.read(self._key, self._at, stop)
        target[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_stored(store: ObjectStore, key: str, size: int, buffer_bytes: int = 0) -> BinaryIO:
    """The object under `key`, of `size` bytes, for reading and seeking; nothing is requested yet.

    With `buffer_bytes` so much is read at once: for who reads on, line by line. Without, a read is a request.
    Reading raises what `ObjectStore.read` raises.
    """
    raw = _StoredFile(store, key, size)
    return cast(BinaryIO, io.BufferedReader(raw, buffer_bytes) if buffer_bytes else raw)
