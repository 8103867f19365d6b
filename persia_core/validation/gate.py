"""The model gate: pure rules from what was measured to a list of checks. See docs/formats/model_version.md.

Everything is compared on the rows of the new partition D:

- `next_day_*`: the candidate's line before it was trained on D against the champion. Neither has seen
  D, so this is the honest comparison.
- `after_training_*`: the candidate as published against the champion. The candidate has seen D, which
  flatters it: failing all the same means that training or export broke it.

A comparison that makes no sense is skipped with its reason. A metric that is missing or not a number
is a failure: it is never taken for a pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from persia_core.config.gates import Gates
from persia_core.validation.checks import at_least, at_most, holds, skipped
from persia_core.validation.not_worse import not_worse
from persia_core.validation.paired import Comparison, Metrics, compare_summaries
from persia_core.validation.shape import Norms, shape_checks
from persia_core.validation.verdict import ModelCheck, finite


@dataclass(frozen=True)
class Champion:
    """The champion as far as the gate needs it.

    `metrics` are its own on D, `norms` those of its tables; None if it reads other features.
    """

    version: str
    ds: str
    schema_fingerprint: str
    metrics: Metrics | None
    norms: Mapping[str, Norms] | None = None


@dataclass(frozen=True)
class Candidate:
    """What was measured of the candidate on partition `ds`.

    `before` and `slices` are what the trainer measured before training on D, `before` None on a cold
    start (`slices` are then of after it). `line` is what the parent version gives on D, None if there is
    no such version. `after` is of the version read back from the store. `next_day` and `after_training`
    compare the predictions of parent and version with the champion's row by row, None where that could
    not be done. `parity` is the largest absolute difference between the version's predictions and the
    trainer's, None if there was no row to compare. `not_finite` names tables and tensors that hold a NaN
    or infinity. `coverage` is the share of the ids on D that have a row, per table.
    """

    version: str
    ds: str
    schema_fingerprint: str
    same_rows: bool  # the partition is still the one that was trained on
    before: Metrics | None
    after: Metrics
    parity: float | None
    not_finite: Sequence[str]
    line: Metrics | None = None
    next_day: Comparison | None = None
    after_training: Comparison | None = None
    slices: Mapping[str, Sequence[Metrics]] | None = None
    coverage: Mapping[str, float] = field(default_factory=dict)
    norms: Mapping[str, Norms] = field(default_factory=dict)
    size_bytes: int = 0


def judge(
    candidate: Candidate, champion: Champion | None, gates: Gates
) -> tuple[list[ModelCheck], list[str]]:
    """The checks of a candidate, and warnings that decide nothing."""
    checks = [
        _same_rows(candidate),
        _finite(candidate),
        _parity(candidate, gates),
        _floor(candidate, gates),
        _calibration(candidate, gates),
        _slices(candidate, gates),
        _restored(candidate, gates),
    ]
    checks += shape_checks(
        candidate.coverage, candidate.norms, champion.norms if champion else None, candidate.size_bytes, gates
    )
    warnings: list[str] = []
    for stage, metrics, paired in (
        ("next_day", candidate.before, candidate.next_day),
        ("after_training", candidate.after, candidate.after_training),
    ):
        if (why := _why_skipped(stage, candidate, champion)) is not None:
            checks += [skipped(f"{stage}_{key}", why) for key in ("auc", "normalised_entropy")]
            continue
        if champion is None or metrics is None:
            raise AssertionError("a comparison that lacks a side is skipped")
        compared = paired or compare_summaries(metrics, champion.metrics or {})
        when = "before training" if stage == "next_day" else "after training"
        checks += not_worse(stage, when, f"champion {champion.version}", compared, gates)
        if paired is None:
            warnings.append(
                f"{stage}: the models could not be compared row by row, so their figures decided: "
                "the version that training started from is not there"
            )
    return checks, warnings + _warnings(candidate, gates)


def _why_skipped(stage: str, candidate: Candidate, champion: Champion | None) -> str | None:
    if champion is None:
        return "there is no champion yet: nothing to compare with"
    if champion.schema_fingerprint != candidate.schema_fingerprint:
        return f"champion {champion.version} reads other features: it cannot score these rows"
    if champion.ds > candidate.ds:
        return f"champion {champion.version} is of a newer partition: a backfill is not compared with it"
    if stage == "next_day" and candidate.before is None:
        return "the candidate started cold: there was no model before this partition"
    if stage == "next_day" and champion.ds == candidate.ds:
        return f"champion {champion.version} was trained on these rows: it would be flattered"
    return None


def _same_rows(candidate: Candidate) -> ModelCheck:
    what = "is the one that was trained on" if candidate.same_rows else "was replaced since training"
    return holds("same_rows", candidate.same_rows, f"the hashed partition {candidate.ds} {what}")


def _finite(candidate: Candidate) -> ModelCheck:
    bad = candidate.not_finite
    reason = f"not finite: {', '.join(bad)}" if bad else "all embeddings and dense weights are finite"
    return at_most("finite", float(len(bad)), 0.0, reason)


def _parity(candidate: Candidate, gates: Gates) -> ModelCheck:
    value, limit = finite(candidate.parity), gates.max_prediction_difference
    if value is None:
        reason = "no prediction of the trainer could be compared with the reloaded model's"
    else:
        reason = f"the reloaded model and the trainer differ by {value:.3g} at most, {limit:.3g} is allowed"
    return at_most("parity", value, limit, reason)


def _honest(candidate: Candidate) -> tuple[Metrics, str]:
    """The figures that are closest to what serving will see, and when they were taken."""
    return (candidate.after, "after") if candidate.before is None else (candidate.before, "before")


def _floor(candidate: Candidate, gates: Gates) -> ModelCheck:
    metrics, when = _honest(candidate)
    value, limit = finite(metrics.get("auc")), gates.min_auc
    if value is None:
        reason = f"AUC {when} training is missing or not a number"
    else:
        reason = f"AUC {value:.4f} {when} training, at least {limit} is asked for"
    return at_least("min_auc", value, limit, reason)


def _calibration(candidate: Candidate, gates: Gates) -> ModelCheck:
    metrics, when = _honest(candidate)
    low, high = gates.calibration
    rows = finite(metrics.get("rows"))
    if rows is not None and rows < gates.min_rows:
        return skipped(
            "calibration", f"{int(rows)} rows say little about it (gates.min_rows {gates.min_rows})"
        )
    value = finite(metrics.get("calibration"))
    if value is None:
        reason = f"calibration {when} training is missing or not a number"
    else:
        reason = (
            f"{value:.3f} clicks were predicted for each that came, {when} training; "
            f"{low:g} to {high:g} is allowed"
        )
    passed = value is not None and low <= value <= high
    return ModelCheck(
        name="calibration", passed=passed, value=value, at_least=low, at_most=high, reason=reason
    )


def _slices(candidate: Candidate, gates: Gates) -> ModelCheck:
    """The worst slice that is large enough against the floor."""
    name, limit = "slices", gates.min_slice_auc
    if limit is None:
        return skipped(name, "no floor is set for slices (gates.min_slice_auc)")
    if candidate.slices is None:
        return at_least(name, None, limit, "the metrics of slices are missing (training.metric_slices)")
    judged = [
        (f"{feature} {each.get('value')}", finite(each.get("auc")))
        for feature, values in candidate.slices.items()
        for each in values
        if (finite(each.get("rows")) or 0.0) >= gates.min_slice_rows
    ]
    if not judged:
        return skipped(name, f"no slice has {gates.min_slice_rows} rows (gates.min_slice_rows)")
    undefined = [where for where, value in judged if value is None]
    if undefined:
        reason = f"AUC of {', '.join(undefined[:5])} is undefined: the slice has rows of one class only"
        return at_least(name, None, limit, reason)
    worst, value = min(judged, key=lambda each: (each[1] or 0.0, each[0]))
    reason = (
        f"the worst of {len(judged)} slices is {worst} with AUC {value:.4f}, at least {limit} is asked for"
    )
    return at_least(name, value, limit, reason)


def _restored(candidate: Candidate, gates: Gates) -> ModelCheck:
    """What the trainer measured before training against what the parent version gives on the same rows."""
    name, limit = "restored", gates.max_auc_drop
    if candidate.before is None:
        return skipped(name, "the candidate started cold: nothing was restored")
    if candidate.line is None:
        return skipped(name, "the version that training started from is not there to be compared with")
    ours, theirs = finite(candidate.before.get("auc")), finite(candidate.line.get("auc"))
    if ours is None or theirs is None:
        return at_most(name, None, limit, "AUC before training or of the parent version is missing")
    reason = (
        f"AUC {ours:.4f} when training started, {theirs:.4f} of the version that it started from: "
        f"a drop of at most {limit} is allowed"
    )
    return at_most(name, theirs - ours, limit, reason)


def _warnings(candidate: Candidate, gates: Gates) -> list[str]:
    rows = finite(candidate.after.get("rows")) or 0.0
    if rows >= gates.min_rows:
        return []
    return [
        f"only {int(rows)} rows to judge on (gates.min_rows is {gates.min_rows}): "
        "the comparisons were made, and mean little"
    ]
