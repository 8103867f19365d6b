"""Validating a published model version: read back, verified, loaded, judged; the verdict is stored."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from persia_core.checkpoint.layout import DENSE, PARITY
from persia_core.config import ModelConfig
from persia_core.config.home import work_dir
from persia_core.data.partition import LocalPartition, open_partition
from persia_core.errors import Corrupt, DataInvalid, GateRefused
from persia_core.handoff.consume import PickedUp, pick_up_version
from persia_core.handoff.evaluate import predict_partition, scratch
from persia_core.handoff.layout import verdict_key
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, read_pointer
from persia_core.validation.gate import Candidate, Champion, judge
from persia_core.validation.verdict import ModelVerdict

logger = logging.getLogger(__name__)


def validate_model(config: ModelConfig, store: ObjectStore, version: str) -> ModelVerdict:
    """Judge a version against the gates and the champion, on the partition it was trained on.

    Reads the version back from the store, checks every byte, loads it, scores the partition with it
    and with the champion. The verdict is stored, whatever it is. Raises GateRefused with the reasons
    if it does not pass. No verdict is stored with Corrupt (the version or the champion is damaged),
    DataInvalid (configuration, partition and version are not of one schema) and PartitionMissing.
    """
    with scratch() as directory:
        picked = pick_up_version(store, config.name, version, directory / "candidate")
        if picked.manifest.schema_fingerprint != config.schema_fingerprint():
            raise DataInvalid(
                f"version {version} reads other features than the configuration names",
                "validate it with the configuration that it was trained with",
            )
        ds = picked.manifest.lineage.ds
        partition = open_partition(store, config, ds, work_dir())
        candidate = _measure(picked, partition, directory / "candidate")
        champion = _champion(config, store, picked, partition, directory / "champion")
    checks, warnings = judge(candidate, champion, config.gates)
    passed = all(check.passed for check in checks)
    failed = [check.reason for check in checks if not check.passed]
    verdict = ModelVerdict(
        version=version,
        ds=ds,
        manifest_sha256=picked.manifest_sha256,
        champion=champion.version if champion else None,
        passed=passed,
        checks=checks,
        warnings=warnings,
        summary=f"{version} passes {len(checks)} checks" if passed else f"{version}: {'; '.join(failed)}",
        metrics={
            "before": candidate.before,
            "after": candidate.after,
            "champion": champion.metrics if champion else None,
        },
    )
    store.put(verdict_key(config.name, version), verdict.to_bytes())
    for check in checks:
        logger.info("%s %s: %s", "pass" if check.passed else "FAIL", check.name, check.reason)
    for warning in warnings:
        logger.warning("%s", warning)
    if not passed:
        raise GateRefused(
            f"model version {verdict.summary}",
            "the champion stays; look at the report of the version and at the data of its partition",
        )
    return verdict


def _measure(picked: PickedUp, partition: LocalPartition, directory: Path) -> Candidate:
    manifest = picked.manifest
    trained_on = manifest.lineage.hashed_digest
    return Candidate(
        version=picked.version,
        ds=manifest.lineage.ds,
        schema_fingerprint=manifest.schema_fingerprint,
        same_rows=trained_on is None or trained_on == partition.manifest.digest,
        before=manifest.metrics.get("before"),
        after=predict_partition(picked.model, partition).summary(),
        parity=_parity(picked, directory),
        not_finite=_not_finite(picked, directory),
    )


def _champion(
    config: ModelConfig, store: ObjectStore, picked: PickedUp, partition: LocalPartition, directory: Path
) -> Champion | None:
    found = read_pointer(store, config.name, CHAMPION)
    if found is None:
        return None
    pointer, _ = found
    stored = read_version(store, config.name, pointer.version)
    fingerprint = stored.manifest.schema_fingerprint
    metrics = None
    if fingerprint == picked.manifest.schema_fingerprint and pointer.ds <= picked.manifest.lineage.ds:
        champion = pick_up_version(store, config.name, pointer.version, directory)
        metrics = predict_partition(champion.model, partition).summary()
    return Champion(pointer.version, pointer.ds, fingerprint, metrics)


def _parity(picked: PickedUp, directory: Path) -> float | None:
    """The largest absolute difference of predictions; None if there are none, or one is not a number."""
    try:
        rows = pq.read_table(directory / PARITY)
        expected = rows["prediction"].to_numpy()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise Corrupt(f"{directory / PARITY}: {error}", "publish the run again") from error
    if rows.num_rows == 0:
        return None
    difference = np.abs(picked.model.predict(rows).astype(np.float64) - expected)
    return float(difference.max())


def _not_finite(picked: PickedUp, directory: Path) -> list[str]:
    from safetensors.numpy import load_file

    arrays: dict[str, NDArray[np.float32]] = {
        f"table {name}": rows.weights for name, rows in picked.model.tables.items()
    }
    for name, tensor in load_file(directory / DENSE).items():
        if np.issubdtype(tensor.dtype, np.floating):
            arrays[f"dense {name}"] = tensor
    return [name for name, array in arrays.items() if not np.isfinite(array).all()]
