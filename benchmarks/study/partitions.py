"""The hashed partitions of the study: landed and hashed by the product, once."""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study.plan import StudyData, resolved
from persia_core.config.home import work_dir
from persia_core.data.hashing import hash_partition
from persia_core.data.partition import read_hashed_manifest, stage_partition
from persia_core.data.raw import land_partition
from persia_core.errors import DataInvalid, PartitionMissing
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.local_store import LocalStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Partitions:
    """The partitions of a data set on local disk, verified, in the order of its days."""

    directories: list[Path]
    digests: list[str]
    rows: list[int]


class StudyStore:
    """Where the study keeps its partitions and works; it is kept from run to run."""

    def __init__(self, root: Path, source: Path, small: bool) -> None:
        """`source` is the folder of the raw data sets."""
        self.root = root.absolute()
        self.store_path = self.root / "store"
        self._store = LocalStore(self.store_path)
        self._source = source
        self._small = small
        os.environ["PERSIA_HOME"] = str(self.root / "home")

    def lacks(self, data: StudyData) -> str | None:
        """Why the data set cannot take part, in words; None if it can."""
        if data.folder is None or (self._source / data.folder).is_dir():
            return None
        return f"left out: {data.name}, for want of {self._source / data.folder} (option --data)"

    def partitions(self, data: StudyData) -> Partitions:
        """Land and hash what is not there yet, and stage it for the trainers."""
        config = resolved(data.document(), self.store_path)
        missing = [ds for ds in data.days if not self._is_hashed(data, ds)]
        if missing:
            with tempfile.TemporaryDirectory() as scratch:
                log.info("%s: writing raw days", data.name)
                data.write(self._source, Path(scratch), self._small)
                for ds in missing:
                    files = sorted((Path(scratch) / f"ds={ds}").iterdir())
                    land_partition(self._store, config.dataset.name, ds, files)
                    hash_partition(config, self._store, ds, replace=True)
        found = Partitions([], [], [])
        for ds in data.days:
            directory, manifest = stage_partition(self._store, config, ds, work_dir())
            (directory / MANIFEST).write_bytes(manifest.to_bytes())
            found.directories.append(directory)
            found.digests.append(manifest.digest)
            found.rows.append(sum(part.rows or 0 for part in manifest.parts))
        return found

    def _is_hashed(self, data: StudyData, ds: str) -> bool:
        try:
            read_hashed_manifest(self._store, resolved(data.document(), self.store_path), ds)
        except (PartitionMissing, DataInvalid):
            return False
        return True
