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
from dataclasses import dataclass
from typing import Any

from persia_core.config.model import Gates
from persia_core.validation.verdict import ModelCheck, finite

Metrics = Mapping[str, Any]  # what training.metrics.summary returns


@dataclass(frozen=True)
class Champion:
    """The champion as far as the gate needs it; `metrics` are its own on D, None if schemas differ."""

    version: str
    ds: str
    schema_fingerprint: str
    metrics: Metrics | None


@dataclass(frozen=True)
class Candidate:
    """What was measured of the candidate on partition `ds`.

    `before` is None on a cold start. `after` is of the version read back from the store.
    `parity` is the largest absolute difference between its predictions and the trainer's, None if
    there was no row to compare. `not_finite` names tables and tensors that hold a NaN or infinity.
    """

    version: str
    ds: str
    schema_fingerprint: str
    same_rows: bool  # the partition is still the one that was trained on
    before: Metrics | None
    after: Metrics
    parity: float | None
    not_finite: Sequence[str]


def judge(
    candidate: Candidate, champion: Champion | None, gates: Gates
) -> tuple[list[ModelCheck], list[str]]:
    """The checks of a candidate, and warnings that decide nothing."""
    checks = [_same_rows(candidate), _finite(candidate), _parity(candidate, gates), _floor(candidate, gates)]
    for stage, metrics in (("next_day", candidate.before), ("after_training", candidate.after)):
        names = (f"{stage}_auc", f"{stage}_log_loss")
        if (why := _why_skipped(stage, candidate, champion)) is not None:
            checks += [ModelCheck(name=name, passed=True, skipped=True, reason=why) for name in names]
        elif champion is not None and metrics is not None:
            checks += _compare(stage, metrics, champion, gates)
    return checks, _warnings(candidate, gates)


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


def _compare(stage: str, metrics: Metrics, champion: Champion, gates: Gates) -> list[ModelCheck]:
    reference = champion.metrics or {}
    when = "before training" if stage == "next_day" else "after training"
    against = f"champion {champion.version}"
    checks = []
    for key, word, sign, limit in (
        ("auc", "AUC", -1.0, gates.max_auc_drop),
        ("log_loss", "log-loss", 1.0, gates.max_log_loss_rise),
    ):
        name = f"{stage}_{key}"
        ours, theirs = finite(metrics.get(key)), finite(reference.get(key))
        if ours is None or theirs is None:
            whose = "the candidate" if ours is None else against
            reason = f"{word} of {whose} is missing or not a number"
            checks.append(ModelCheck(name=name, passed=False, limit=limit, reason=reason))
            continue
        worse = sign * (ours - theirs)
        change = "drop" if key == "auc" else "rise"
        reason = f"{word} {ours:.4f} {when}, {against} {theirs:.4f}: a {change} of at most {limit} is allowed"
        checks.append(ModelCheck(name=name, passed=worse <= limit, value=worse, limit=limit, reason=reason))
    return checks


def _same_rows(candidate: Candidate) -> ModelCheck:
    what = "is the one that was trained on" if candidate.same_rows else "was replaced since training"
    return ModelCheck(
        name="same_rows", passed=candidate.same_rows, reason=f"the hashed partition {candidate.ds} {what}"
    )


def _finite(candidate: Candidate) -> ModelCheck:
    bad = candidate.not_finite
    reason = f"not finite: {', '.join(bad)}" if bad else "all embeddings and dense weights are finite"
    return ModelCheck(name="finite", passed=not bad, value=float(len(bad)), limit=0.0, reason=reason)


def _parity(candidate: Candidate, gates: Gates) -> ModelCheck:
    value, limit = finite(candidate.parity), gates.max_prediction_difference
    if value is None:
        reason = "no prediction of the trainer could be compared with the reloaded model's"
        return ModelCheck(name="parity", passed=False, limit=limit, reason=reason)
    reason = f"the reloaded model and the trainer differ by {value:.3g} at most, {limit:.3g} is allowed"
    return ModelCheck(name="parity", passed=value <= limit, value=value, limit=limit, reason=reason)


def _floor(candidate: Candidate, gates: Gates) -> ModelCheck:
    metrics = candidate.after if candidate.before is None else candidate.before
    when = "after" if candidate.before is None else "before"
    value, limit = finite(metrics.get("auc")), gates.min_auc
    if value is None:
        reason = f"AUC {when} training is missing or not a number"
        return ModelCheck(name="min_auc", passed=False, limit=limit, reason=reason)
    reason = f"AUC {value:.4f} {when} training, at least {limit} is asked for"
    return ModelCheck(name="min_auc", passed=value >= limit, value=value, limit=limit, reason=reason)


def _warnings(candidate: Candidate, gates: Gates) -> list[str]:
    rows = finite(candidate.after.get("rows")) or 0.0
    if rows >= gates.min_rows:
        return []
    return [
        f"only {int(rows)} rows to judge on (gates.min_rows is {gates.min_rows}): "
        "the comparisons were made, and mean little"
    ]
