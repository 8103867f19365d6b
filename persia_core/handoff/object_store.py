"""What the storage contract asks of an object store, and how one is opened."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from persia_core.config.model import Storage


class NotFound(Exception):
    """There is no object under that key."""


class PreconditionFailed(Exception):
    """Somebody else was first: the object exists (put_if_absent) or has changed (put_if_match)."""


@dataclass(frozen=True)
class Stored:
    """An object's bytes and its entity tag (opaque; only for put_if_match)."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class ObjectInfo:
    """One line of a listing; `size` in bytes, `modified` in seconds since 1970."""

    key: str
    size: int
    modified: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Upload:
    """An upload that was begun and not completed: no reader sees it, but it takes space.

    `size` is what has arrived, in bytes; `modified` when something last did, in seconds since 1970.
    """

    key: str
    id: str
    size: int
    modified: float


class ObjectStore(Protocol):
    """Keys are relative to the storage URL. Every call raises StorageUnavailable when the service

    cannot be reached or refuses the credentials, and DiskFull when a local disk is full.
    """

    @property
    def url(self) -> str:
        """The storage URL, for people."""
        ...

    def uri(self, key: str) -> str:
        """The full URI of a key, for people and logs."""
        ...

    def get(self, key: str) -> Stored:
        """Raises NotFound. For small objects (manifests, pointers)."""
        ...

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object, as many of them as it has from `start` on. Raises NotFound."""
        ...

    def put(self, key: str, data: bytes) -> str:
        """Write and return the new etag. Only for keys nobody else writes."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Write only if there is no object; PreconditionFailed otherwise."""
        ...

    def put_if_match(self, key: str, data: bytes, etag: str) -> str:
        """Write only if the object still has `etag`; PreconditionFailed otherwise."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, in order of key."""
        ...

    def upload(self, path: Path, key: str) -> None:
        """Copy a local file to `key` (parallel multipart when large)."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file, complete or not at all. Raises NotFound."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; removing nothing is no error."""
        ...

    def uploads(self) -> Iterator[Upload]:
        """All uploads that were begun and not completed, whoever began them."""
        ...

    def abort_upload(self, upload: Upload) -> None:
        """Give up an upload of `uploads`; one that is completed or gone is no error."""
        ...


def open_store(storage: Storage) -> ObjectStore:
    """The store of a configuration: S3 for `s3://`, a local directory for `file:///`."""
    if storage.url.startswith("s3://"):
        from persia_core.handoff.s3_store import S3Store

        return S3Store(storage.url, storage.endpoint_url)
    from persia_core.handoff.local_store import LocalStore

    return LocalStore(Path(storage.url.removeprefix("file://")))
