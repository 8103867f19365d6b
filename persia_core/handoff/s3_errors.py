"""What the errors of an S3 client mean to a person."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
)

from persia_core.errors import DiskFull, StorageUnavailable

_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
)


def unavailable(error: BaseException, endpoint_url: str | None, bucket: str) -> StorageUnavailable:
    """The error for people: which endpoint and bucket, and what to do."""
    endpoint = endpoint_url or "AWS S3"
    cause = client_error(error) or error
    if isinstance(cause, NoCredentialsError | PartialCredentialsError):
        return StorageUnavailable(
            f"no credentials for {endpoint}: {cause}",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or any other source that boto3 reads",
        )
    if isinstance(cause, EndpointConnectionError | ConnectTimeoutError | ReadTimeoutError):
        return StorageUnavailable(
            f"{endpoint} does not answer: {cause}",
            "start the service, or correct storage.endpoint_url (PERSIA_S3_ENDPOINT)",
        )
    if isinstance(cause, ClientError):
        code, status = code_of(cause), status_of(cause)
        if code == "NoSuchBucket" or (status == 404 and code in ("404", "NotFound")):
            option = f" --endpoint-url {endpoint_url}" if endpoint_url else ""
            return StorageUnavailable(
                f"there is no bucket {bucket!r} at {endpoint}",
                f"create it (aws{option} s3 mb s3://{bucket}), or correct storage.url",
            )
        if code in _CREDENTIALS:
            return StorageUnavailable(
                f"{endpoint} does not accept the credentials ({code})",
                "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the token), and this host's clock",
            )
        if status == 403:
            return StorageUnavailable(
                f"{endpoint} refuses {cause.operation_name} in bucket {bucket!r} ({code})",
                "grant these credentials to read, write and list the bucket",
            )
        return StorageUnavailable(
            f"{endpoint} answered {cause.operation_name} in bucket {bucket!r} with {status} {code}",
            "look at the service, then run again",
        )
    return StorageUnavailable(
        f"{endpoint}, bucket {bucket!r}: {cause}", "look at the service, then run again"
    )


def client_error(error: BaseException) -> ClientError | None:
    """The answer of the service behind `error`: transfers wrap it."""
    seen: BaseException | None = error
    for _ in range(5):
        if seen is None or isinstance(seen, ClientError):
            return seen
        seen = getattr(seen, "last_exception", None) or seen.__cause__ or seen.__context__
    return None


def status_of(error: BaseException) -> int:
    """The HTTP status behind an error, 0 if there was no answer."""
    found = client_error(error)
    return int(found.response["ResponseMetadata"].get("HTTPStatusCode", 0)) if found else 0


def code_of(error: BaseException) -> str:
    """The service's error code, empty if there was no answer."""
    found = client_error(error)
    return str(found.response.get("Error", {}).get("Code", "")) if found else ""


def is_local(error: BaseException) -> bool:
    """True for an error of this host's disk. Some of botocore's network errors are OSErrors too."""
    return isinstance(error, OSError) and not isinstance(error, BotoCoreError)


@contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """Errors of the local disk while `path` is written. Raises DiskFull naming it."""
    try:
        yield
    except OSError as error:
        if is_local(error) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left writing {path}", "free space there and run again") from error
        raise
