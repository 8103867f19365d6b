"""Landing raw files in the store. What a raw partition may hold: docs/formats/raw.md."""

import logging
from pathlib import Path

from persia_core.errors import DataInvalid
from persia_core.handoff.layout import raw_prefix
from persia_core.handoff.object_store import ObjectStore
from spark_jobs.raw_files import SUFFIXES

log = logging.getLogger(__name__)

ENDINGS = tuple(ending for endings in SUFFIXES.values() for ending in endings)


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
