"""An object store in a local directory: durable, atomic, one writer's view for all processes.

Files are written under `<root>/.store/tmp`, synced, and then linked or renamed into place, so a
reader sees an object complete or not at all. `put_if_absent` is link(2), which fails if the name
exists; `put_if_match` compares and renames under flock(2) on `<root>/.store/lock`. The directory
must be on one file system that has hard links and flock (a local disk; not every network one).
"""

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from persia_core.errors import Corrupt, DiskFull, StorageUnavailable
from persia_core.handoff.keys import MAX_SMALL_OBJECT_BYTES, check_key, check_prefix
from persia_core.handoff.object_store import NotFound, ObjectInfo, PreconditionFailed, Stored, Upload

_INTERNAL = ".store"
_TEMPORARY = "/".join((_INTERNAL, "tmp"))


class LocalStore:
    """See ObjectStore for the calls. The entity tag is the SHA-256 of the content."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def url(self) -> str:
        """`file:///directory`."""
        return f"file://{self._root}"

    def uri(self, key: str) -> str:
        """The full URI of a key, for people and logs."""
        return f"{self.url}/{key}"

    def get(self, key: str) -> Stored:
        """Raises NotFound, and Corrupt for an object too large to be a manifest or pointer."""
        path = self._path(key)
        with self._errors(path):
            try:
                with path.open("rb") as file:
                    data = file.read(MAX_SMALL_OBJECT_BYTES + 1)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise NotFound(self.uri(key)) from None
        if len(data) > MAX_SMALL_OBJECT_BYTES:
            raise Corrupt(f"{self.uri(key)} has over {MAX_SMALL_OBJECT_BYTES} bytes", "download it instead")
        return Stored(data, _etag(data))

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object, as many of them as there are. Raises NotFound."""
        path = self._path(key)
        with self._errors(path):
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    return file.read(max(0, stop - start))
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise NotFound(self.uri(key)) from None

    def put(self, key: str, data: bytes) -> str:
        """Write, whatever was there, and return the new etag."""
        path = self._path(key)
        with self._errors(path), self._temporary() as temporary:
            _write(temporary, data)
            with self._locked():
                _make_parents(path, self._root)
                temporary.replace(path)
                _sync_directory(path.parent)
        return _etag(data)

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Write only if there is no object; PreconditionFailed otherwise."""
        path = self._path(key)
        with self._errors(path), self._temporary() as temporary:
            _write(temporary, data)
            _make_parents(path, self._root)
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise PreconditionFailed(f"{self.uri(key)} is already there") from None
            _sync_directory(path.parent)
        return _etag(data)

    def put_if_match(self, key: str, data: bytes, etag: str) -> str:
        """Write only if the object still has `etag`; PreconditionFailed otherwise."""
        path = self._path(key)
        with self._errors(path), self._temporary() as temporary:
            _write(temporary, data)
            with self._locked():
                try:
                    current = self.get(key).etag
                except NotFound:
                    raise PreconditionFailed(f"{self.uri(key)} is gone") from None
                if current != etag:
                    raise PreconditionFailed(f"{self.uri(key)} has changed")
                temporary.replace(path)
                _sync_directory(path.parent)
        return _etag(data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, in order of key. Links are not followed."""
        check_prefix(prefix)
        top = self._root / prefix.rpartition("/")[0]
        found: list[ObjectInfo] = []
        with self._errors(top):
            for directory, children, names in os.walk(top):
                if Path(directory) == self._root and _INTERNAL in children:
                    children.remove(_INTERNAL)
                for name in names:
                    path = Path(directory, name)
                    key = path.relative_to(self._root).as_posix()
                    if not key.startswith(prefix) or path.is_symlink():
                        continue
                    try:
                        status = path.stat()
                        found.append(ObjectInfo(key, status.st_size, status.st_mtime))
                    except FileNotFoundError:  # deleted since the directory was read
                        continue
        yield from sorted(found, key=lambda info: info.key)

    def upload(self, path: Path, key: str) -> None:
        """Copy a local file to `key`."""
        target = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such file to upload", str(path))
        with self._errors(target), self._temporary() as temporary:
            _copy(path, temporary)
            with self._locked():
                _make_parents(target, self._root)
                temporary.replace(target)
                _sync_directory(target.parent)

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file, complete or not at all. Raises NotFound."""
        source = self._path(key)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with self._errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                try:
                    _copy(source, temporary)
                except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                    raise NotFound(self.uri(key)) from None
                temporary.replace(path)
                _sync_directory(path.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove an object; removing nothing is no error."""
        path = self._path(key)
        with self._errors(path), self._locked():
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            _sync_directory(path.parent)

    def uploads(self) -> Iterator[Upload]:
        """The temporary files of writers at work, and of those that died; their keys are not known."""
        directory = self._root / _TEMPORARY
        with self._errors(directory):
            for path in sorted(directory.glob("*")):
                try:
                    status = path.stat()
                except FileNotFoundError:  # finished since the directory was read
                    continue
                yield Upload(f"{_TEMPORARY}/{path.name}", path.name, status.st_size, status.st_mtime)

    def abort_upload(self, upload: Upload) -> None:
        """Remove a temporary file."""
        path = self._root / _TEMPORARY / upload.id
        with self._errors(path):
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if check_key(key).split("/")[0] == _INTERNAL:
            raise ValueError(f"key {key!r} is the store's own")
        return self._root / key

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        directory = self._root / _TEMPORARY
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        directory = self._root / _INTERNAL
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, or the process dies
            yield

    @contextmanager
    def _errors(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"no space left writing {path}", "free space there and run again") from error
            raise StorageUnavailable(
                f"{path}: {error.strerror or error}",
                f"make the directory {self._root} readable and writable for this user",
            ) from error


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def _make_parents(path: Path, root: Path) -> None:
    """Create the directories between `root` and `path`, each made durable in its own parent."""
    missing = [parent for parent in path.parents if parent.is_relative_to(root) and not parent.exists()]
    for directory in reversed(missing):
        directory.mkdir(parents=True, exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
