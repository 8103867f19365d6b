"""Bringing a raw partition to where Spark can read it: here, from the store to local disk."""

import logging
from pathlib import Path

from persia_core.config import ModelConfig
from persia_core.data.raw import landed_files
from persia_core.errors import DataInvalid, PartitionEmpty, PartitionMissing
from persia_core.handoff.layout import raw_prefix
from persia_core.handoff.object_store import ObjectStore
from spark_jobs.raw_files import SUFFIXES, RawFile, suffix_of

log = logging.getLogger(__name__)


def stage_raw(store: ObjectStore, config: ModelConfig, ds: str, directory: Path) -> list[RawFile]:
    """Copy the raw files of partition `ds` into `directory`, in order of key.

    Objects whose name starts with `_` or `.` are marks of writers, not data. Raises PartitionMissing
    when there is no object, PartitionEmpty when all are of size zero, DataInvalid when one has not the
    ending of the dataset's format.
    """
    prefix = raw_prefix(config.dataset.name, ds)
    found = landed_files(store, config.dataset.name, ds)
    if not found:
        raise PartitionMissing(
            f"no raw partition: there is nothing under {store.uri(prefix)}",
            "wait until it is delivered, or check dataset.name and the storage URL; "
            f"a file is landed by: persia data land --config FILE --ds {ds} FILE...",
        )
    file_format = config.dataset.format
    files = []
    for number, info in enumerate(found):
        suffix = suffix_of(info.key, file_format)
        if suffix is None:
            raise DataInvalid(
                f"{store.uri(info.key)} has not the ending of a {file_format} file "
                f"({', '.join(SUFFIXES[file_format])})",
                "remove it from the partition, or name its format in dataset.format",
            )
        if info.size == 0:
            continue
        # Names of our own: Spark hides files whose name starts with _ and expands [] and {}.
        path = directory / f"{number:05d}{suffix}"
        store.download(info.key, path)
        files.append(RawFile(path, store.uri(info.key)))
    if not files:
        raise PartitionEmpty(
            f"all files under {store.uri(prefix)} are of size zero",
            "look at what delivers the raw files, then run again",
        )
    log.info("staged %d raw files of %s, %d bytes", len(files), store.uri(prefix), sum(i.size for i in found))
    return files
