"""What the result of each stage says in metrics."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from persia_core.config import ModelConfig
from persia_core.exit_codes import ExitCode
from persia_core.monitoring import names
from persia_core.monitoring.names import Metric
from persia_core.monitoring.samples import Samples

Document = Mapping[str, Any]

# The last word of a rank's role is its number: "embedding server 3".
ROLES = ("embedding server", "embedding worker", "trainer")
_HOW = {ExitCode.RANK_FAILED: "died", ExitCode.RANK_HUNG: "hung"}
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    `document` is its result as JSON has it, of a failed one what it found out all the same. `role` is that of
    the rank that ended a training job.
    """

    code: int
    seconds: float
    document: Any = None
    role: str | None = None


def samples_of(
    stage: str, model: str, config: ModelConfig | None, ds: str | None, ended: Ended, now: float
) -> Samples:
    """All samples of the end of a stage at `now`, Unix time."""
    samples = Samples(model)
    document: Document = ended.document if isinstance(ended.document, Mapping) else {}
    done = ended.code == ExitCode.OK
    samples.add(names.STAGE_RUNS, 1, stage=stage, exit_code=_name_of(ended.code))
    samples.observe(names.STAGE_SECONDS, ended.seconds, stage=stage)
    samples.set(names.STAGE_SUCCESS if done else names.STAGE_FAILURE, now, stage=stage)
    ds = ds or document.get("ds")
    if done and ds is not None and stage != names.ROLLBACK:
        samples.set(names.STAGE_PARTITION, _begin_of(ds), stage=stage)
    if config is not None:
        samples.set(names.PARTITION_INTERVAL, config.data_checks.partition_days * _DAY_S, stage=stage)
    if (tell := _TELL.get(stage)) is not None:
        tell(samples, document, ended)
    return samples


def _hash(samples: Samples, result: Document, _: Ended) -> None:
    if result and not result["already_there"]:
        samples.add(names.HASH_ROWS, result["rows_kept"])
        samples.add(names.HASH_BYTES, result["bytes"])
        for reason, rows in result["rejected"].items():
            samples.add(names.HASH_REJECTED_ROWS, rows, reason=reason)


def _validate_data(samples: Samples, verdict: Document, _: Ended) -> None:
    for each in ("pass", "warn", "fail"):
        made = sum(check["status"] == each for check in verdict.get("checks", ()))
        samples.add(names.DATA_CHECKS, made, status=each)
        samples.add(names.DATA_VERDICTS, verdict.get("verdict") == each, verdict=each)
    if verdict:
        samples.set(names.DATA_PASSED, verdict["verdict"] != "fail")


def _train(samples: Samples, result: Document, ended: Ended) -> None:
    for role in ROLES:
        for code, how in _HOW.items():
            found = ended.role is not None and ended.role.startswith(role) and ended.code == code
            samples.add(names.RANK_FAILURES, found, role=role.replace(" ", "_"), how=how)
    if not result or result["already_done"]:
        return
    metrics: Document = result["metrics"]
    samples.add(names.TRAINING_ROWS, metrics["rows_trained"])
    samples.add(names.TRAINING_SAMPLES, metrics["visits"]["trained"])
    samples.add(names.TRAINING_STEPS, metrics["steps"])
    samples.add(names.TRAINING_SECONDS, metrics["seconds"])
    for reason, rows in metrics["rows_skipped"].items():
        samples.add(names.TRAINING_SKIPPED_ROWS, rows, reason=reason)
    times = metrics["step_seconds"]
    samples.observe_counts(names.TRAINING_STEP_SECONDS, times["counts"], times["sum"])
    _staleness(samples, metrics["staleness"]["histogram"])
    for metric, by_table in (
        (names.TABLE_ROWS, metrics["table_rows"]),
        (names.TABLE_BYTES, metrics["table_bytes"]),
    ):
        for table, value in by_table.items():
            samples.set(metric, value, table=table)
    cuts = metrics["cuts"]
    for outcome in ("taken", "failed"):
        samples.add(names.CUTS, cuts[outcome], outcome=outcome)
    samples.add(names.CUT_BYTES, cuts["bytes"])
    samples.add(names.CUT_PAUSE, cuts["pause_s"])
    samples.set(names.CUT_LONGEST_PAUSE, cuts["longest_pause_s"])


def _staleness(samples: Samples, histogram: Mapping[str, int]) -> None:
    bounds = names.TRAINING_STALENESS.buckets
    counts = [0] * (len(bounds) + 1)
    for outstanding, count in histogram.items():
        counts[bisect_left(bounds, float(outstanding))] += count
    total = sum(int(outstanding) * count for outstanding, count in histogram.items())
    samples.observe_counts(names.TRAINING_STALENESS, counts, total)


def _publish(samples: Samples, result: Document, _: Ended) -> None:
    if result:
        samples.set(names.VERSION_BYTES, result["bytes"])


def _validate_model(samples: Samples, verdict: Document, _: Ended) -> None:
    for word, passed in (("passed", True), ("refused", False)):
        samples.add(names.GATE_VERDICTS, verdict.get("passed") is passed, verdict=word)
    if not verdict:
        return
    samples.set(names.GATE_PASSED, verdict["passed"])
    measured = verdict["metrics"]
    for of in ("before", "after", "champion"):
        summary = measured.get(of) or {}
        _set_if_there(samples, names.MODEL_AUC, summary.get("auc"), of)
        _set_if_there(samples, names.MODEL_LOG_LOSS, summary.get("log_loss"), of)


def _set_if_there(samples: Samples, metric: Metric, value: float | None, of: str) -> None:
    if value is not None:
        samples.set(metric, value, of=of)


def _promote(samples: Samples, result: Document, ended: Ended) -> None:
    samples.add(names.PROMOTIONS, bool(result.get("moved")), outcome="promoted")
    samples.add(names.PROMOTIONS, ended.code == ExitCode.PROMOTION_REFUSED, outcome="refused")


def _rollback(samples: Samples, result: Document, _: Ended) -> None:
    samples.add(names.PROMOTIONS, bool(result.get("moved")), outcome="rolled_back")


_TELL: dict[str, Callable[[Samples, Document, Ended], None]] = {
    names.HASH: _hash,
    names.VALIDATE_DATA: _validate_data,
    names.TRAIN: _train,
    names.PUBLISH: _publish,
    names.VALIDATE_MODEL: _validate_model,
    names.PROMOTE: _promote,
    names.ROLLBACK: _rollback,
}


def _name_of(code: int) -> str:
    try:
        return ExitCode(code).name
    except ValueError:
        return "SIGNAL" if code > 128 else "OTHER"


def _begin_of(ds: str) -> float:
    return datetime.fromisoformat(ds).replace(tzinfo=UTC).timestamp()
