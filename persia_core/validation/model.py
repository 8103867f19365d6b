"""Validating a published model version: read back, verified, loaded, judged; the verdict is stored."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig
from persia_core.config.home import work_dir
from persia_core.data.partition import LocalPartition, open_partition
from persia_core.errors import DataInvalid, GateRefused
from persia_core.handoff.consume import PickedUp, pick_up_version
from persia_core.handoff.evaluate import Predictions, predict_partition, scratch
from persia_core.handoff.layout import verdict_key
from persia_core.handoff.models import read_version, version_exists
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, read_pointer
from persia_core.validation.gate import Candidate, Champion, judge
from persia_core.validation.measure import coverage_of, norms_of, not_finite, parity_of
from persia_core.validation.metric_table import unmet
from persia_core.validation.paired import Comparison, compare
from persia_core.validation.shape import Norms
from persia_core.validation.verdict import ModelCheck, ModelVerdict

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Scored:
    """Another version on the candidate's partition."""

    predictions: Predictions
    norms: dict[str, Norms]


def validate_model(config: ModelConfig, store: ObjectStore, version: str) -> ModelVerdict:
    """Judge a version against the gates and the champion, on the partition it was trained on.

    Reads the version back from the store, checks every byte, loads it, scores the partition with it, with
    the champion, and with the version that training started from. The verdict is stored, whatever it is.
    Raises GateRefused with the reasons if it does not pass. No verdict is stored with Corrupt (the version
    or the champion is damaged), DataInvalid (configuration, partition and version are not of one schema)
    and PartitionMissing.
    """
    with scratch() as directory:
        picked = pick_up_version(store, config.name, version, directory / "candidate")
        if picked.manifest.schema_fingerprint != config.schema_fingerprint():
            raise DataInvalid(
                f"version {version} reads other features than the configuration names",
                "validate it with the configuration that it was trained with",
            )
        partition = open_partition(store, config, picked.manifest.lineage.ds, work_dir())
        candidate, champion = _measure_both(config, store, picked, partition, directory)
    checks, warnings = judge(candidate, champion, config.gates)
    verdict = _verdict(picked, candidate, champion, _with_expectations(checks), warnings)
    store.put(verdict_key(config.name, version), verdict.to_bytes())
    for check in checks:
        word = "skip" if check.skipped else "pass" if check.passed else "FAIL"
        logger.info("%s %s: %s", word, check.name, check.reason)
    for warning in warnings:
        logger.warning("%s", warning)
    if not verdict.passed:
        raise GateRefused(
            f"model version {verdict.summary}",
            "the champion stays; look at the report of the version and at the data of its partition",
            result=verdict,
        )
    return verdict


def _with_expectations(checks: list[ModelCheck]) -> list[ModelCheck]:
    """The checks, failed where Great Expectations finds that the expectation of one is not met."""
    failed = unmet(checks)
    return [check.model_copy(update={"passed": False}) if check.name in failed else check for check in checks]


def _verdict(
    picked: PickedUp,
    candidate: Candidate,
    champion: Champion | None,
    checks: list[ModelCheck],
    warnings: list[str],
) -> ModelVerdict:
    failed = [check.reason for check in checks if not check.passed]
    left_out = sum(check.skipped for check in checks)
    made = f"{len(checks) - left_out} checks passed, {left_out} did not apply"
    return ModelVerdict(
        version=picked.version,
        ds=candidate.ds,
        manifest_sha256=picked.manifest_sha256,
        champion=champion.version if champion else None,
        passed=not failed,
        checks=checks,
        warnings=warnings,
        summary=f"{picked.version} may become champion: {made}"
        if not failed
        else f"{picked.version} is refused: {'; '.join(failed)}",
        metrics={
            "before": candidate.before,
            "after": candidate.after,
            "champion": champion.metrics if champion else None,
            "parent": candidate.line,
        },
    )


def _measure_both(
    config: ModelConfig, store: ObjectStore, picked: PickedUp, partition: LocalPartition, directory: Path
) -> tuple[Candidate, Champion | None]:
    ours = predict_partition(picked.model, partition)
    candidate = _measure(picked, partition, directory / "candidate", ours)
    found = read_pointer(store, config.name, CHAMPION)
    pointer = found[0] if found else None
    champion, theirs = None, None
    if pointer is not None:
        fingerprint = read_version(store, config.name, pointer.version).manifest.schema_fingerprint
        champion = Champion(pointer.version, pointer.ds, fingerprint, None)
        if fingerprint == candidate.schema_fingerprint and pointer.ds <= candidate.ds:
            theirs = _score(config, store, pointer.version, partition, directory / "champion")
            champion = replace(champion, metrics=theirs.predictions.summary(), norms=theirs.norms)
            paired = compare(ours.labels, ours.probabilities, theirs.predictions.probabilities, ours.weights)
            candidate = replace(candidate, after_training=paired)
    line = _line(config, store, picked, partition, directory, pointer.version if pointer else None, theirs)
    if line is not None:
        candidate = replace(candidate, line=line.summary(), next_day=_compare(line, theirs))
    return candidate, champion


def _compare(line: Predictions, theirs: _Scored | None) -> Comparison | None:
    if theirs is None:
        return None
    return compare(line.labels, line.probabilities, theirs.predictions.probabilities, line.weights)


def _line(
    config: ModelConfig,
    store: ObjectStore,
    picked: PickedUp,
    partition: LocalPartition,
    directory: Path,
    champion: str | None,
    theirs: _Scored | None,
) -> Predictions | None:
    """The candidate's line before training: its parent version on the partition. None if that is gone."""
    parent = picked.manifest.lineage.parent
    if parent is None or picked.manifest.metrics.get("before") is None:
        return None
    if parent == champion and theirs is not None:
        return theirs.predictions
    if not version_exists(store, config.name, parent):
        return None
    if read_version(store, config.name, parent).manifest.schema_fingerprint != config.schema_fingerprint():
        return None
    return _score(config, store, parent, partition, directory / "parent").predictions


def _score(
    config: ModelConfig, store: ObjectStore, version: str, partition: LocalPartition, directory: Path
) -> _Scored:
    model = pick_up_version(store, config.name, version, directory).model
    return _Scored(predict_partition(model, partition), norms_of(model))


def _measure(picked: PickedUp, partition: LocalPartition, directory: Path, ours: Predictions) -> Candidate:
    manifest = picked.manifest
    trained_on = manifest.lineage.hashed_digest
    before = manifest.metrics.get("before")
    slices: dict[str, Any] = manifest.metrics.get("slices") or {}
    return Candidate(
        version=picked.version,
        ds=manifest.lineage.ds,
        schema_fingerprint=manifest.schema_fingerprint,
        same_rows=trained_on is None or trained_on == partition.manifest.digest,
        before=before,
        after=ours.summary(),
        parity=parity_of(picked, directory),
        not_finite=not_finite(picked, directory),
        slices=slices.get("after" if before is None else "before"),
        coverage=coverage_of(picked.model, partition),
        norms=norms_of(picked.model),
        size_bytes=sum(part.size for part in manifest.parts),
    )
