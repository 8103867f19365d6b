"""What the medium of a checkpoint allows: the same bytes, moved by programs that do nothing else."""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20  # as `dd bs=1M`
_SOURCE = 64 << 20  # more than a cache holds
_TRANSFER_CHUNK = 16 << 20
_CONNECTIONS = 4


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_files(directory: Path, sizes: list[int], writers: int) -> float:
    """Seconds to write files of `sizes` bytes from memory by write(2), `writers` at a time."""
    source = np.random.default_rng(0).integers(0, 256, _SOURCE, dtype=np.uint8)
    shares = _shares(sizes, writers)

    def write(share: list[int]) -> None:
        for number in share:
            with (directory / f"limit-{number}").open("wb", buffering=0) as file:
                for start in range(0, sizes[number], _BLOCK):
                    at = start % _SOURCE
                    file.write(source[at : at + min(_BLOCK, sizes[number] - start)].data)

    return seconds(lambda: _together(write, shares))


def read_files(paths: list[Path], readers: int) -> float:
    """Seconds to read the files into memory of their size by read(2), `readers` at a time."""
    shares = _shares([path.stat().st_size for path in paths], readers)

    def read(share: list[int]) -> None:
        for number in share:
            size = paths[number].stat().st_size
            memory = mmap.mmap(-1, size)
            memory.madvise(mmap.MADV_HUGEPAGE)
            target: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
            with paths[number].open("rb", buffering=0) as file:
                at = 0
                while at < size:
                    at += file.readinto(target[at : at + _BLOCK].data) or size
            del target
            memory.close()

    return seconds(lambda: _together(read, shares))


class BareS3:
    """boto3 and nothing else: multipart, as many connections as the product has."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        import boto3
        from boto3.s3.transfer import TransferConfig

        self._client: Any = boto3.session.Session().client(
            "s3", endpoint_url=endpoint, region_name="us-east-1"
        )
        self._bucket = bucket
        self._transfer = TransferConfig(
            multipart_threshold=_TRANSFER_CHUNK,
            multipart_chunksize=_TRANSFER_CHUNK,
            max_concurrency=_CONNECTIONS,
        )

    def make_bucket(self) -> None:
        """To be called once."""
        self._client.create_bucket(Bucket=self._bucket)

    def upload(self, paths: list[Path]) -> float:
        """Seconds, file after file."""
        return seconds(lambda: list(map(self._upload, paths)))

    def download(self, paths: list[Path], directory: Path) -> float:
        """Seconds for the files that were uploaded, file after file."""
        return seconds(lambda: list(map(partial(self._download, directory), paths)))

    def clear(self) -> None:
        """Remove everything: the endpoint holds it in memory."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
            for item in page.get("Contents", ()):
                self._client.delete_object(Bucket=self._bucket, Key=item["Key"])

    def _upload(self, path: Path) -> None:
        self._client.upload_file(str(path), self._bucket, f"bare/{path.name}", Config=self._transfer)

    def _download(self, directory: Path, path: Path) -> None:
        target = directory / path.name
        self._client.download_file(self._bucket, f"bare/{path.name}", str(target), Config=self._transfer)


@contextmanager
def credentials() -> Iterator[None]:
    """Some, for the local endpoint, which accepts any."""
    before = dict(os.environ)
    os.environ.update(AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench")  # noqa: S106
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _shares(sizes: list[int], workers: int) -> list[list[int]]:
    return [list(range(worker, len(sizes), workers)) for worker in range(workers)]


def _together(work: Callable[[list[int]], None], shares: list[list[int]]) -> None:
    with ThreadPoolExecutor(len(shares)) as pool:
        list(pool.map(work, shares))
