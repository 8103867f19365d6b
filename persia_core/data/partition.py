"""Reading a hashed partition: fetched, verified, then any range of rows in partition order."""

import threading
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from persia_core.config import ModelConfig
from persia_core.data.schema import hashed_columns, schema_difference
from persia_core.errors import Corrupt, DataInvalid, PartitionEmpty, PartitionMissing
from persia_core.handoff.layout import MANIFEST, hashed_prefix
from persia_core.handoff.manifest import Manifest, Part
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.transfer import download_parts, read_manifest


@dataclass(frozen=True)
class _Group:
    """A row group: its file (position in the manifest), its number there, its number of rows."""

    file: int
    number: int
    rows: int


class LocalPartition:
    """A hashed partition on local disk. Safe to read from several threads.

    Row r of the partition is row r of the parts in manifest order, concatenated. One decoded row
    group is kept, so that reading forward in small ranges decodes each group once.
    """

    def __init__(self, directory: Path, manifest: Manifest, config: ModelConfig) -> None:
        """Open the parts of `manifest` under `directory`, whose checksums have been verified.

        Raises DataInvalid when a part is not Parquet or has other columns than `config` says, and
        PartitionEmpty when there are no rows.
        """
        self.directory = directory
        self.manifest = manifest
        self.weighted = config.dataset.weight is not None  # whether samples have weights
        self._files: list[pq.ParquetFile] = []
        self._groups: list[_Group] = []
        for position, part in enumerate(manifest.parts):
            file = _open_part(directory / part.path, part, config)
            self._files.append(file)
            counts = (file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups))
            self._groups += [_Group(position, g, rows) for g, rows in enumerate(counts) if rows]
        self._starts = [0, *accumulate(group.rows for group in self._groups)]
        if not self.rows:
            raise PartitionEmpty(
                f"partition ds={manifest.lineage.ds} of {manifest.lineage.dataset} holds no rows",
                "look at rejected rows in its manifest and at the raw files, then hash the day again",
            )
        self._names = list(hashed_columns(config))
        self._lock = threading.Lock()
        self._cached: tuple[int, pa.Table] | None = None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return self._starts[-1]

    def read(self, start: int, stop: int) -> pa.Table:
        """Rows [start, stop) in partition order; IndexError unless 0 <= start <= stop <= rows."""
        if not 0 <= start <= stop <= self.rows:
            raise IndexError(f"rows {start} to {stop} of a partition of {self.rows} rows")
        index = min(bisect_right(self._starts, start), len(self._groups)) - 1
        pieces = []
        with self._lock:
            while True:
                first = self._starts[index]
                low, high = max(start - first, 0), min(stop - first, self._groups[index].rows)
                pieces.append(self._group(index).slice(low, high - low))
                index += 1
                if self._starts[index] >= stop:
                    break
        return pieces[0] if len(pieces) == 1 else pa.concat_tables(pieces)

    def locate(self, row: int) -> tuple[str, int, int]:
        """Where a row lies: the part's path in the manifest, the row group in it, the row in that.

        IndexError unless 0 <= row < rows.
        """
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of a partition of {self.rows} rows")
        index = bisect_right(self._starts, row) - 1
        group = self._groups[index]
        return self.manifest.parts[group.file].path, group.number, row - self._starts[index]

    def _group(self, index: int) -> pa.Table:
        if self._cached is not None and self._cached[0] == index:
            return self._cached[1]
        self._cached = None  # never two decoded groups at once
        group = self._groups[index]
        try:
            table = self._files[group.file].read_row_group(group.number, columns=self._names)
        except (pa.ArrowException, OSError) as error:
            path = self.directory / self.manifest.parts[group.file].path
            raise Corrupt(f"{path}: row group {group.number}: {error}", "hash the day again") from error
        table = table.replace_schema_metadata(None).combine_chunks()
        self._cached = (index, table)
        return table


def open_partition(store: ObjectStore, config: ModelConfig, ds: str, work_dir: Path) -> LocalPartition:
    """Fetch the hashed partition `ds` into `work_dir`, verify it, and open it.

    Raises what `stage_partition` raises, PartitionEmpty, and DataInvalid for other columns than
    `config` says.
    """
    directory, manifest = stage_partition(store, config, ds, work_dir)
    return LocalPartition(directory, manifest, config)


def reopen_partition(directory: Path, config: ModelConfig) -> LocalPartition:
    """Open a verified partition that lies in `directory` with its manifest; raises as LocalPartition does."""
    path = directory / MANIFEST
    return LocalPartition(directory, Manifest.from_bytes(path.read_bytes(), str(path)), config)


def stage_partition(
    store: ObjectStore, config: ModelConfig, ds: str, work_dir: Path
) -> tuple[Path, Manifest]:
    """Fetch the parts of the hashed partition `ds`; returns their directory and the manifest.

    Files that lie there already and have the right checksum are not fetched again, so the stages of
    one host share one copy. Raises PartitionMissing, DataInvalid (hashed with another schema), Corrupt
    (a part is missing, cut short or has another checksum), StorageUnavailable and DiskFull.
    """
    manifest = read_hashed_manifest(store, config, ds)
    directory = work_dir / "hashed" / config.dataset.name / f"ds={ds}" / manifest.digest[:16]
    download_parts(store, hashed_prefix(config.dataset.name, ds), manifest, directory)
    return directory, manifest


def read_hashed_manifest(store: ObjectStore, config: ModelConfig, ds: str) -> Manifest:
    """The manifest of the hashed partition `ds`.

    Raises PartitionMissing when there is none, DataInvalid when it is of another kind, day or schema,
    Corrupt when it cannot be read.
    """
    prefix = hashed_prefix(config.dataset.name, ds)
    key = prefix + MANIFEST
    remedy = f"run persia hash for this day: persia hash --config FILE --ds {ds}"
    try:
        manifest = read_manifest(store, prefix).manifest
    except NotFound as error:
        raise PartitionMissing(f"no hashed partition: {store.uri(key)} does not exist", remedy) from error
    if manifest.kind != "hashed":
        raise DataInvalid(f"{store.uri(key)} is a manifest of kind {manifest.kind}, not hashed", remedy)
    if (manifest.lineage.dataset, manifest.lineage.ds) != (config.dataset.name, ds):
        raise DataInvalid(
            f"{store.uri(key)} says it is ds={manifest.lineage.ds} of {manifest.lineage.dataset}",
            f"it was copied from elsewhere; {remedy}",
        )
    if manifest.schema_fingerprint != config.schema_fingerprint():
        raise DataInvalid(
            f"{store.uri(key)} was hashed with another schema ({manifest.schema_fingerprint[:12]}, "
            f"the configuration's is {config.schema_fingerprint()[:12]})",
            "use the configuration that hashed it, or hash the day again: "
            f"persia hash --config FILE --ds {ds} --replace",
        )
    return manifest


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open one part; DataInvalid if it is not Parquet."""
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise DataInvalid(f"{path} is not Parquet: {error}", "hash the day again") from error


def _open_part(path: Path, part: Part, config: ModelConfig) -> pq.ParquetFile:
    file = open_parquet(path)
    if difference := schema_difference(config, file.schema_arrow):
        raise DataInvalid(f"{path}: {difference}", "hash the day again with this configuration")
    if part.rows is not None and file.metadata.num_rows != part.rows:
        raise DataInvalid(
            f"{path} holds {file.metadata.num_rows} rows, the manifest says {part.rows}", "hash the day again"
        )
    return file
