"""From a raw partition to a hashed one: fetch, hash with Spark, write, publish with the manifest last."""

import errno
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from persia_core import __version__
from persia_core.config import ModelConfig
from persia_core.config.home import work_dir
from persia_core.data.hashed_writer import ROWS_PER_GROUP, write_parts
from persia_core.data.rejected import LocatedRows, RejectedRow, locate_rejected, refusal
from persia_core.data.rejected_store import publish_rejected
from persia_core.data.replace import existing_manifest, replace_manifest
from persia_core.data.spark_errors import check_shared, disk_full, explained
from persia_core.data.staging import raw_files
from persia_core.data.statistics import PartitionStatistics
from persia_core.errors import Corrupt, PersiaError, StorageConflict
from persia_core.handoff.layout import MANIFEST, hashed_prefix
from persia_core.handoff.manifest import Lineage, Manifest, digest_of
from persia_core.handoff.object_store import ObjectStore, Stored
from spark_jobs.hash_features import REJECTED, HashReport, hash_files
from spark_jobs.raw_files import RawFile
from spark_jobs.session import spark_session

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HashResult:
    """A hashed partition that is complete in the store. `uri` is that of its manifest.

    `expected_collisions`: id feature -> pairs of its values that share an id, on average.
    `already_there`: the very same partition had been hashed before and nothing was written.
    """

    dataset: str
    ds: str
    uri: str
    digest: str
    rows_in: int
    rows_kept: int
    rejected: dict[str, int]
    expected_collisions: dict[str, float]
    label_rate: float
    parts: int
    bytes: int
    already_there: bool
    seconds: float


def hash_partition(config: ModelConfig, store: ObjectStore, ds: str, replace: bool = False) -> HashResult:
    """Hash the raw partition `ds` and publish it; equal input and configuration give an equal digest.

    Rejected rows are kept beside it, also where the partition is refused for them. Raises
    PartitionMissing, PartitionEmpty, DataInvalid (a file, column or label is not as declared, or more
    rows are rejected than data_checks.max_rejected_share allows), StorageConflict (another content is
    published already and `replace` is false, or somebody else published meanwhile), StorageUnavailable,
    DiskFull, EnvironmentProblem (no Java, no classes for s3a://, no directory that all hosts share). On any
    error the partition in the store is as it was.
    """
    start = time.monotonic()
    prefix = hashed_prefix(config.dataset.name, ds)
    existing = existing_manifest(store, prefix + MANIFEST)
    if existing is not None and not replace:
        _refuse_other_schema(config, store, prefix, existing)
    with _scratch() as scratch:
        files = raw_files(store, config, ds, scratch)
        log.info("hashing ds=%s of %s", ds, config.dataset.name)
        report, sources = _run_spark(config, files, scratch / "spark")
        rejected = _rejected(config, ds, report, files, scratch)
        if error := refusal(config, report.rows_in, report.rejected, rejected.first):
            if existing is None or replace:  # those of a published partition stay
                publish_rejected(store, rejected.manifest, scratch / REJECTED)
            raise error
        manifest = _write(config, ds, report, sources, scratch)
        log.info(
            "ds=%s: %d of %d rows kept (rejected: %s), %d files, digest %s",
            *(ds, report.rows_kept, report.rows_in, _shown(report.rejected)),
            *(len(manifest.parts), manifest.digest[:12]),
        )
        already_there = _publish(store, prefix, manifest, scratch, replace)
        publish_rejected(store, rejected.manifest, scratch / REJECTED)
    return HashResult(
        dataset=config.dataset.name,
        ds=ds,
        uri=store.uri(prefix + MANIFEST),
        digest=manifest.digest,
        rows_in=report.rows_in,
        rows_kept=report.rows_kept,
        rejected=report.rejected,
        expected_collisions={
            name: figures["expected_collisions"]
            for name, figures in manifest.details["features"].items()
            if "expected_collisions" in figures
        },
        label_rate=manifest.details["label_rate"],
        parts=len(manifest.parts),
        bytes=sum(part.size for part in manifest.parts),
        already_there=already_there,
        seconds=round(time.monotonic() - start, 3),
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory of its own under the working directory, removed whatever happens."""
    try:
        work_dir().mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="hash-", dir=work_dir()))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full() from error
        raise


def _run_spark(config: ModelConfig, files: list[RawFile], output: Path) -> tuple[HashReport, list[Path]]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    section = config.spark
    master = section.master
    try:
        with spark_session(work_dir(), master=master, settings=section.settings) as spark:
            master = spark.sparkContext.master  # under spark-submit the one that was submitted to
            report = hash_files(spark, config, files, output)
    except PersiaError:
        raise
    except (PySparkException, Py4JError) as error:
        if known := explained(error, master, files):
            raise known from error
        raise
    return report, check_shared(master, report.rows_kept, output)


def _rejected(
    config: ModelConfig, ds: str, report: HashReport, files: list[RawFile], scratch: Path
) -> "_Rejected":
    located = LocatedRows()
    if report.rejected:
        source = scratch / "spark" / REJECTED
        located = locate_rejected(source, files, scratch / REJECTED, report.rows_rejected)
    manifest = Manifest(
        kind="rejected",
        digest=digest_of(located.parts),
        parts=located.parts,
        schema_fingerprint=config.schema_fingerprint(),
        lineage=_lineage(config, ds),
        details={"rows_in": report.rows_in, "rejected": report.rejected},
    )
    return _Rejected(manifest, located.first)


@dataclass(frozen=True)
class _Rejected:
    manifest: Manifest
    first: dict[str, RejectedRow]


def _lineage(config: ModelConfig, ds: str) -> Lineage:
    return Lineage(
        dataset=config.dataset.name, ds=ds, config_digest=config.digest(), code_version=__version__
    )


def _write(config: ModelConfig, ds: str, report: HashReport, sources: list[Path], scratch: Path) -> Manifest:
    statistics = PartitionStatistics(config, report.missing)
    parts = write_parts(config, sources, scratch, statistics)
    written = sum(part.rows or 0 for part in parts)
    if written != report.rows_kept:
        raise RuntimeError(f"Spark counted {report.rows_kept} kept rows and wrote {written}")
    return Manifest(
        kind="hashed",
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint=config.schema_fingerprint(),
        lineage=_lineage(config, ds),
        details={
            "rows_in": report.rows_in,
            "rows_kept": report.rows_kept,
            "rejected": report.rejected,
            "label_rate": statistics.label_rate(),
            "row_group_rows": ROWS_PER_GROUP,
            "features": statistics.features(),
            **({"vocabulary": report.vocabulary} if report.vocabulary else {}),
        },
    )


def _publish(store: ObjectStore, prefix: str, manifest: Manifest, directory: Path, replace: bool) -> bool:
    """Upload parts, then the manifest. True if the same partition was there already."""
    existing = existing_manifest(store, prefix + MANIFEST)
    if existing is not None and _same(store, prefix, existing, manifest, replace):
        log.info("%s holds the same partition already", store.uri(prefix))
        return True
    for done, part in enumerate(manifest.parts, start=1):
        store.upload(directory / part.path, prefix + part.path)
        log.info("uploaded part %d of %d to %s", done, len(manifest.parts), store.uri(prefix))
    key = prefix + MANIFEST
    if not replace_manifest(
        store, key, manifest, existing, lambda now: _same(store, prefix, now, manifest, replace=False)
    ):
        return True
    log.info("published %s", store.uri(key))
    return False


def _same(store: ObjectStore, prefix: str, existing: Stored, manifest: Manifest, replace: bool) -> bool:
    """True if `existing` holds what `manifest` does; False if it may be replaced; else StorageConflict."""
    key = prefix + MANIFEST
    try:
        other = Manifest.from_bytes(existing.data, store.uri(key))
    except Corrupt:
        if replace:
            return False
        raise
    if other.digest == manifest.digest and other.schema_fingerprint == manifest.schema_fingerprint:
        return True
    if replace:
        return False
    raise StorageConflict(
        f"{store.uri(key)} holds another content (digest {other.digest[:12]}, this run made "
        f"{manifest.digest[:12]}): the raw partition or the software has changed since",
        "to publish the new content run again with --replace, then train the day again",
    )


def _refuse_other_schema(config: ModelConfig, store: ObjectStore, prefix: str, existing: Stored) -> None:
    """Say at once, not after hashing, that the published partition has another schema."""
    key = prefix + MANIFEST
    other = Manifest.from_bytes(existing.data, store.uri(key))
    if other.schema_fingerprint != config.schema_fingerprint():
        raise StorageConflict(
            f"{store.uri(key)} was hashed with another schema ({other.schema_fingerprint[:12]}, the "
            f"configuration's is {config.schema_fingerprint()[:12]})",
            "give the dataset of this configuration a name of its own (dataset.name), or overwrite the day "
            "with --replace",
        )


def _shown(rejected: dict[str, int]) -> str:
    return ", ".join(f"{reason} {rows}" for reason, rows in rejected.items()) or "none"
