"""An object store on S3, or any service that speaks its protocol (docs/formats/layout.md says how far)."""

import logging
import mimetypes
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from persia_core.errors import ConfigError, Corrupt, StorageUnavailable
from persia_core.handoff.keys import MAX_SMALL_OBJECT_BYTES, check_key, check_prefix
from persia_core.handoff.object_store import NotFound, ObjectInfo, PreconditionFailed, Stored, Upload
from persia_core.handoff.s3_errors import code_of, is_local, local_errors, status_of, unavailable

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
_CONFLICT_ATTEMPTS = 8
_TRANSFER = TransferConfig(
    multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=4, use_threads=True
)


class S3Store:
    """See ObjectStore for the calls. The entity tag is the service's ETag, with its quotes.

    Credentials come from boto3's own chain. Safe to share between threads.
    """

    def __init__(self, url: str, endpoint_url: str | None = None, session: Any = None) -> None:
        """`url` is s3://bucket or s3://bucket/prefix. No request is made here. Raises ConfigError.

        `session` is a boto3 session with credentials of its own, where the process's are not to be used.
        """
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not url.startswith("s3://") or not bucket:
            raise ConfigError(f"storage URL {url!r} names no bucket", "write it as s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint_url
        self._strip_quotes = False
        try:
            self._client: Any = (session or boto3.session.Session()).client(
                "s3", endpoint_url=endpoint_url, config=_config(endpoint_url)
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(
                f"no S3 client for {url} at {endpoint_url or 'AWS'}: {error}",
                "correct storage.endpoint_url (http://host:port) and the AWS_* environment variables",
            ) from error

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`, without a trailing slash."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def uri(self, key: str) -> str:
        """The full URI of a key, for people and logs."""
        return f"{self.url}/{key}"

    def get(self, key: str) -> Stored:
        """Raises NotFound, and Corrupt for an object too large to be a manifest or pointer."""
        return self._received(key, MAX_SMALL_OBJECT_BYTES)

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object, by a ranged GET; `start` must be in it. Raises NotFound."""
        if stop <= start:
            return b""
        return self._received(key, stop - start, Range=f"bytes={start}-{stop - 1}").data

    def _received(self, key: str, most: int, **arguments: str) -> Stored:
        """An object, or a range of it, that has at most so many bytes."""
        for attempt in range(1, _ATTEMPTS + 1):
            answer = self._call("get_object", key, **arguments)
            if answer["ContentLength"] > most:
                answer["Body"].close()
                raise Corrupt(
                    f"{self.uri(key)} has {answer['ContentLength']} bytes, at most {most} were asked for",
                    "no manifest or pointer is that large; something else was stored under this name",
                )
            try:
                return Stored(answer["Body"].read(), answer["ETag"])
            except BotoCoreError as error:  # the body broke off: botocore retries the request only
                if attempt == _ATTEMPTS:
                    raise self._unavailable(error) from error
                _pause(attempt)
        raise AssertionError("unreachable")

    def put(self, key: str, data: bytes) -> str:
        """Write, whatever was there, and return the new etag."""
        return str(self._call("put_object", key, Body=data)["ETag"])

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Write only if there is no object (If-None-Match: *); PreconditionFailed otherwise."""
        return self._conditional_put(key, data, lambda: {"IfNoneMatch": "*"})

    def put_if_match(self, key: str, data: bytes, etag: str) -> str:
        """Write only if the object still has `etag` (If-Match); PreconditionFailed otherwise."""
        try:
            return self._conditional_put(key, data, lambda: {"IfMatch": self._if_match(etag)})
        except PreconditionFailed:
            if self._strip_quotes or '"' not in etag:
                raise
            # Ceph's gateway refuses a quoted ETag even if it is the right one: is this such a service?
            try:
                current = self.get(key).etag
            except NotFound:
                raise PreconditionFailed(f"{self.uri(key)} is gone") from None
            if current != etag:
                raise
            etag_was = self._conditional_put(key, data, lambda: {"IfMatch": etag.strip('"')})
            self._strip_quotes = True
            return etag_was

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, in order of key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + check_prefix(prefix)
        )
        try:
            for page in pages:
                for item in page.get("Contents", ()):
                    modified = item["LastModified"].timestamp()
                    yield ObjectInfo(item["Key"].removeprefix(self._prefix), item["Size"], modified)
        except (BotoCoreError, ClientError) as error:
            raise self._unavailable(error) from error

    def upload(self, path: Path, key: str) -> None:
        """Copy a local file to `key`: parallel multipart over 16 MiB, aborted when it fails."""
        full = self._prefix + check_key(key)
        try:
            # A browser shows reports and Data Docs only if it is told what they are.
            kind, packed = mimetypes.guess_type(key)
            extra = {"ContentType": kind} if kind and not packed else {}
            self._client.upload_file(str(path), self._bucket, full, ExtraArgs=extra, Config=_TRANSFER)
        except Exception as error:
            if is_local(error):
                raise
            raise self._unavailable(error) from error

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file, complete or not at all. Raises NotFound, DiskFull."""
        full = self._prefix + check_key(key)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    try:
                        self._client.download_fileobj(self._bucket, full, file, Config=_TRANSFER)
                    except Exception as error:
                        if is_local(error):
                            raise
                        if status_of(error) == 404 and self._bucket_exists():
                            raise NotFound(self.uri(key)) from None
                        raise self._unavailable(error) from error
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove an object; removing nothing is no error."""
        try:
            self._call("delete_object", key)
        except NotFound:
            return

    def uploads(self) -> Iterator[Upload]:
        """All multipart uploads under the storage URL that were begun and not completed."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        try:
            for page in pages:
                for item in page.get("Uploads", ()):
                    if (found := self._upload(item)) is not None:
                        yield found
        except (BotoCoreError, ClientError) as error:
            raise self._unavailable(error) from error

    def abort_upload(self, upload: Upload) -> None:
        """Give up a multipart upload; one that is completed or gone is no error."""
        key = self._prefix + check_key(upload.key)
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload.id)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise self._unavailable(error) from error
        except BotoCoreError as error:
            raise self._unavailable(error) from error

    def _upload(self, item: dict[str, Any]) -> Upload | None:
        """An upload of the listing with what has arrived of it; None if it has ended since."""
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=item["Key"], UploadId=item["UploadId"]
        )
        size, modified = 0, item["Initiated"].timestamp()
        try:
            for page in pages:
                for part in page.get("Parts", ()):
                    size += part["Size"]
                    modified = max(modified, part["LastModified"].timestamp())
        except ClientError as error:
            if code_of(error) == "NoSuchUpload":
                return None
            raise
        return Upload(item["Key"].removeprefix(self._prefix), item["UploadId"], size, modified)

    def _conditional_put(self, key: str, data: bytes, condition: Callable[[], dict[str, str]]) -> str:
        retried = False
        for attempt in range(1, _CONFLICT_ATTEMPTS + 1):
            try:
                answer = self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + check_key(key), Body=data, **condition()
                )
                return str(answer["ETag"])
            except ClientError as error:
                retried = retried or error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
                status = status_of(error)
                if status == 409 and attempt < _CONFLICT_ATTEMPTS:  # two conditional writes met
                    retried = True
                    _pause(attempt)
                    continue
                if status == 412 or (status == 404 and code_of(error) == "NoSuchKey"):
                    if retried and (ours := self._if_ours(key, data)) is not None:
                        return ours
                    raise PreconditionFailed(f"{self.uri(key)} is there already, or has changed") from None
                raise self._unavailable(error) from error
            except BotoCoreError as error:
                raise self._unavailable(error) from error
        raise AssertionError("unreachable")

    def _if_ours(self, key: str, data: bytes) -> str | None:
        """The etag, if the object holds `data`: an attempt of ours succeeded and its reply was lost."""
        try:
            stored = self.get(key)
        except NotFound:
            return None
        return stored.etag if stored.data == data else None

    def _if_match(self, etag: str) -> str:
        return etag.strip('"') if self._strip_quotes else etag

    def _call(self, operation: str, key: str, **arguments: Any) -> Any:
        full = self._prefix + check_key(key)
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, Key=full, **arguments)
        except ClientError as error:
            if code_of(error) == "NoSuchKey":
                raise NotFound(self.uri(key)) from None
            raise self._unavailable(error) from error
        except BotoCoreError as error:
            raise self._unavailable(error) from error

    def _bucket_exists(self) -> bool:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            return status_of(error) != 404
        except BotoCoreError as error:
            raise self._unavailable(error) from error
        return True

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        return unavailable(error, self._endpoint, self._bucket)


def _config(endpoint_url: str | None) -> Config:
    return Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=32,
        signature_version="s3v4",
        # Services other than AWS often lack the newer trailing checksums; we verify SHA-256 ourselves.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if endpoint_url else {},
        region_name=None if _region_is_set() else "us-east-1",
    )


def _region_is_set() -> bool:
    return boto3.session.Session().region_name is not None


def _pause(attempt: int) -> None:
    """Exponential back-off with full jitter, at most 3 s."""
    time.sleep(random.uniform(0.0, min(3.0, 0.05 * 2**attempt)))  # noqa: S311
