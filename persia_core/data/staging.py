"""How Spark comes to a raw partition: copies on local disk, or the objects of the store where they lie."""

import logging
from functools import partial
from pathlib import Path

from persia_core.config import ModelConfig
from persia_core.data.raw import is_data, landed_files
from persia_core.errors import DataInvalid, PartitionEmpty, PartitionMissing
from persia_core.handoff.layout import raw_prefix
from persia_core.handoff.object_store import ObjectInfo, ObjectStore
from persia_core.handoff.ranges import open_stored
from spark_jobs.raw_files import SUFFIXES, RawFile, local_file, suffix_of
from spark_jobs.s3a import SCHEME

log = logging.getLogger(__name__)

_READ_AHEAD = 4 << 20  # bytes of one request, where the driver reads a raw file line by line


def raw_files(store: ObjectStore, config: ModelConfig, ds: str, directory: Path) -> list[RawFile]:
    """The raw files of partition `ds` in order of key: staged in `directory`, or direct (`spark.read_from`).

    Objects whose name starts with `_` or `.` are marks of writers, not data; those of size zero hold no
    rows. Raises PartitionMissing when there is no object, PartitionEmpty when all are of size zero,
    DataInvalid when one has not the ending of the dataset's format.
    """
    found = _delivered(store, config, ds)
    if config.spark.read_from == "direct":
        return direct_raw(store, found)
    return stage_raw(store, config, found, directory)


def stage_raw(
    store: ObjectStore, config: ModelConfig, found: list[ObjectInfo], directory: Path
) -> list[RawFile]:
    """Copy raw files into `directory`."""
    files = []
    for number, info in enumerate(found):
        # Names of our own, so that those of the keys are nobody's path.
        path = directory / f"{number:05d}{suffix_of(info.key, config.dataset.format)}"
        store.download(info.key, path)
        files.append(local_file(path, store.uri(info.key)))
    log.info("staged %d raw files, %d bytes", len(files), sum(info.size for info in found))
    return files


def named_files(config: ModelConfig, name: str) -> list[RawFile]:
    """What an argument of the job names: a file, `s3a://bucket/key`, or all data under `s3a://bucket/prefix/`.

    Raises PartitionMissing where there is nothing.
    """
    missing = PartitionMissing(f"{name}: no such file", "name raw files after --input")
    if not name.startswith((SCHEME, "s3://")):
        if not Path(name).is_file():
            raise missing
        return [local_file(Path(name), name)]
    from persia_core.handoff.s3_store import S3Store

    bucket, _, key = name.partition("://")[2].partition("/")
    store = S3Store(f"s3://{bucket}", config.storage.endpoint_url)
    there = [info for info in store.list(key) if is_data(info.key) and info.size]
    found = [info for info in there if info.key == key or key.endswith("/")]
    if not found:
        raise missing
    return direct_raw(store, found)


def direct_raw(store: ObjectStore, found: list[ObjectInfo]) -> list[RawFile]:
    """Raw files where they lie: `s3a://` of a store on S3, paths of one in a directory. Nothing is copied."""
    return [
        RawFile(
            location=_location(store.uri(info.key)),
            name=store.uri(info.key),
            size=info.size,
            open=partial(open_stored, store, info.key, info.size, _READ_AHEAD),
        )
        for info in found
    ]


def _location(uri: str) -> str:
    return SCHEME + uri.removeprefix("s3://") if uri.startswith("s3://") else uri.removeprefix("file://")


def _delivered(store: ObjectStore, config: ModelConfig, ds: str) -> list[ObjectInfo]:
    prefix = raw_prefix(config.dataset.name, ds)
    found = landed_files(store, config.dataset.name, ds)
    if not found:
        raise PartitionMissing(
            f"no raw partition: there is nothing under {store.uri(prefix)}",
            "wait until it is delivered, or check dataset.name and the storage URL; "
            f"a file is landed by: persia data land --config FILE --ds {ds} FILE...",
        )
    file_format = config.dataset.format
    for info in found:
        if suffix_of(info.key, file_format) is None:
            raise DataInvalid(
                f"{store.uri(info.key)} has not the ending of a {file_format} file "
                f"({', '.join(SUFFIXES[file_format])})",
                "remove it from the partition, or name its format in dataset.format",
            )
    if not any(info.size for info in found):
        raise PartitionEmpty(
            f"all files under {store.uri(prefix)} are of size zero",
            "look at what delivers the raw files, then run again",
        )
    return [info for info in found if info.size]
