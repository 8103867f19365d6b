"""Looking into a hashed partition where it lies in the store: its footers, and single row groups.

Nothing is written to disk, and no more is in memory than a footer and a row group. What is read so has no
checksum of its own: who trains on a partition fetches it whole and verifies it (`partition.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from persia_core.errors import DataInvalid
from persia_core.handoff.layout import hashed_prefix
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.ranges import open_stored
from persia_core.handoff.transfer import check_listed

_REMEDY = "hash the day again"


@dataclass(frozen=True)
class Footer:
    """What the end of a part says: its columns, and the rows of each of its row groups."""

    schema: pa.Schema
    rows: list[int]


class StoredPartition:
    """The parts of a hashed partition in the store, by their place in the manifest; one is open at a time."""

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        """Raises Corrupt where a part is missing or of another size than the manifest says."""
        self._store, self._manifest = store, manifest
        self._prefix = hashed_prefix(manifest.lineage.dataset, manifest.lineage.ds)
        self._open: tuple[int, pq.ParquetFile] | None = None
        check_listed(store, self._prefix, manifest.parts)

    def footers(self) -> Iterator[Footer]:
        """Of every part, in order. Raises DataInvalid for one that is not Parquet."""
        for part in range(len(self._manifest.parts)):
            file = self._file(part)
            groups = range(file.metadata.num_row_groups)
            yield Footer(file.schema_arrow, [file.metadata.row_group(group).num_rows for group in groups])

    def read_group(self, part: int, group: int) -> pa.Table:
        """One row group; those of a part are best asked for together. Raises DataInvalid if it is damaged."""
        file = self._file(part)
        try:
            return file.read_row_group(group).replace_schema_metadata(None)
        except (pa.ArrowException, OSError) as error:
            raise DataInvalid(f"{self._uri(part)}: row group {group}: {error}", _REMEDY) from error

    def _file(self, part: int) -> pq.ParquetFile:
        if self._open is None or self._open[0] != part:
            self._open = None
            listed = self._manifest.parts[part]
            stream = open_stored(self._store, self._prefix + listed.path, listed.size)
            try:
                file = pq.ParquetFile(stream, pre_buffer=True)  # few requests for the columns of a row group
            except (pa.ArrowException, OSError) as error:
                raise DataInvalid(f"{self._uri(part)} is not Parquet: {error}", _REMEDY) from error
            self._open = (part, file)
        return self._open[1]

    def _uri(self, part: int) -> str:
        return self._store.uri(self._prefix + self._manifest.parts[part].path)
