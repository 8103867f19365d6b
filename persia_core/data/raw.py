"""Landing raw files in the store. What a raw partition may hold: docs/formats/raw.md."""

import logging
import re
from pathlib import Path

from persia_core.errors import DataInvalid, PartitionMissing
from persia_core.handoff.layout import raw_prefix, raw_root
from persia_core.handoff.object_store import ObjectInfo, ObjectStore
from spark_jobs.raw_files import SUFFIXES

log = logging.getLogger(__name__)

ENDINGS = tuple(ending for endings in SUFFIXES.values() for ending in endings)

_DAY = re.compile(r"ds=(\d{4}-\d{2}-\d{2})/")


def land_partition(store: ObjectStore, dataset: str, ds: str, files: list[Path]) -> list[str]:
    """Upload `files` as the raw partition `ds`, each under its own name; returns the keys.

    A file of that name that is there already is replaced; others of the partition stay. Nothing is
    uploaded unless all files are good. Raises DataInvalid for a file that is missing, empty, of an
    unknown ending, or of the same name as another one; ValueError for a bad dataset or ds;
    StorageUnavailable and DiskFull.
    """
    prefix = raw_prefix(dataset, ds)
    if not files:
        raise DataInvalid(f"no files given for the raw partition ds={ds}", "name at least one file")
    names: set[str] = set()
    for path in files:
        _check(path)
        if path.name in names:
            raise DataInvalid(f"two files are called {path.name}", "give them different names")
        names.add(path.name)
    keys = []
    for path in files:
        key = prefix + path.name
        store.upload(path, key)
        log.info("landed %s (%d bytes)", store.uri(key), path.stat().st_size)
        keys.append(key)
    return keys


def landed_files(store: ObjectStore, dataset: str, ds: str) -> list[ObjectInfo]:
    """The raw files of partition `ds`, in order of key, without marks of writers; none if it is not there."""
    return [info for info in store.list(raw_prefix(dataset, ds)) if is_data(info.key)]


def require_landed(store: ObjectStore, dataset: str, ds: str) -> list[str]:
    """The URIs of the raw files of partition `ds`. Raises PartitionMissing if it has not arrived."""
    files = landed_files(store, dataset, ds)
    if not files:
        raise PartitionMissing(
            f"no raw partition: there is nothing under {store.uri(raw_prefix(dataset, ds))}",
            "wait until it is delivered, or check dataset.name and the storage URL",
        )
    return [store.uri(info.key) for info in files]


def landed_days(store: ObjectStore, dataset: str, first: str, last: str) -> list[str]:
    """The partitions from `first` to `last`, both included, that have arrived, ascending."""
    root = raw_root(dataset)
    found = {m[1] for i in store.list(root) if is_data(i.key) and (m := _DAY.match(i.key.removeprefix(root)))}
    return sorted(day for day in found if first <= day <= last)


def is_data(key: str) -> bool:
    """Whether a key under `raw/` is of a file, and not of a writer's mark."""
    name = key.rpartition("/")[2]
    return bool(name) and not name.startswith(("_", "."))


def _check(path: Path) -> None:
    if not path.is_file():
        raise DataInvalid(f"{path} is not a file", "name an existing file")
    if path.stat().st_size == 0:
        raise DataInvalid(f"{path} is empty", "deliver the file again")
    if not path.name.endswith(ENDINGS) or path.name.startswith(("_", ".")):
        raise DataInvalid(
            f"{path}: no raw file is called {path.name}",
            f"use a name that ends in one of {', '.join(ENDINGS)} and starts with a letter or digit",
        )
