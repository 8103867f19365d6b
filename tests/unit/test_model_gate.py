"""The model gate: what passes, what is refused, and what is skipped with which reason."""

import math
from dataclasses import replace
from typing import Any

import pytest

from persia_core.config.model import Gates
from persia_core.validation.gate import Candidate, Champion, judge
from persia_core.validation.verdict import ModelCheck, ModelVerdict, finite

GATES = Gates(min_rows=100, min_auc=0.6, max_auc_drop=0.01, max_log_loss_rise=0.02)


def metrics(auc: float | None = 0.75, log_loss: float | None = 0.5, rows: int = 1000) -> dict[str, Any]:
    return {"rows": rows, "label_rate": 0.3, "auc": auc, "log_loss": log_loss, "calibration": 1.0}


CANDIDATE = Candidate(
    version="2026-11-03-aaaaaaaaaaaa",
    ds="2026-11-03",
    schema_fingerprint="s",
    same_rows=True,
    before=metrics(),
    after=metrics(0.80, 0.45),
    parity=1e-7,
    not_finite=[],
)
CHAMPION = Champion("2026-11-02-bbbbbbbbbbbb", "2026-11-02", "s", metrics())
COMPARISONS = ["next_day_auc", "next_day_log_loss", "after_training_auc", "after_training_log_loss"]


def failed(candidate: Candidate, champion: Champion | None = CHAMPION, gates: Gates = GATES) -> list[str]:
    return [check.name for check in judge(candidate, champion, gates)[0] if not check.passed]


def by_name(candidate: Candidate, champion: Champion | None = CHAMPION) -> dict[str, ModelCheck]:
    return {check.name: check for check in judge(candidate, champion, GATES)[0]}


def test_a_good_candidate_passes_every_check_and_none_is_skipped() -> None:
    checks, warnings = judge(CANDIDATE, CHAMPION, GATES)
    assert [check.name for check in checks] == ["same_rows", "finite", "parity", "min_auc", *COMPARISONS]
    assert all(check.passed and not check.skipped and check.reason for check in checks)
    assert warnings == []


@pytest.mark.parametrize(
    ("stage", "field"), [("next_day", "before"), ("after_training", "after")], ids=["next_day", "after"]
)
@pytest.mark.parametrize(
    ("auc", "log_loss", "which"),
    [
        (0.7401, 0.5199, []),  # within the margins
        (0.7399, 0.50, ["auc"]),
        (0.75, 0.5201, ["log_loss"]),
        (0.70, 0.60, ["auc", "log_loss"]),
        (0.99, 0.10, []),
    ],
)
def test_worse_than_the_champion_by_more_than_the_margin_is_refused(
    stage: str, field: str, auc: float, log_loss: float, which: list[str]
) -> None:
    candidate = replace(CANDIDATE, **{field: metrics(auc, log_loss)})
    assert failed(candidate) == [f"{stage}_{key}" for key in which]
    for key in which:
        reason = by_name(candidate)[f"{stage}_{key}"].reason
        assert CHAMPION.version in reason
        assert f"{auc if key == 'auc' else log_loss:.4f}" in reason


def test_the_first_model_is_judged_by_the_floor_alone() -> None:
    checks = by_name(CANDIDATE, None)
    assert all(checks[name].skipped and "no champion yet" in checks[name].reason for name in COMPARISONS)
    assert failed(CANDIDATE, None) == []
    assert failed(replace(CANDIDATE, before=metrics(0.59)), None) == ["min_auc"]


def test_on_a_cold_start_the_floor_is_on_the_metrics_after_training() -> None:
    cold = replace(CANDIDATE, before=None)
    checks = by_name(cold)
    assert checks["min_auc"].value == 0.80
    assert [name for name in COMPARISONS if checks[name].skipped] == COMPARISONS[:2]
    assert failed(replace(cold, after=metrics(0.59, 0.5)), None) == ["min_auc"]


def test_a_champion_of_another_schema_is_not_compared_and_the_floor_still_holds() -> None:
    other = replace(CHAMPION, schema_fingerprint="t", metrics=None)
    checks = by_name(CANDIDATE, other)
    assert all(checks[name].skipped and "other features" in checks[name].reason for name in COMPARISONS)
    assert failed(CANDIDATE, other) == []
    assert failed(replace(CANDIDATE, before=metrics(0.5)), other) == ["min_auc"]


def test_a_champion_of_the_same_day_is_compared_after_training_only() -> None:
    same = replace(CHAMPION, ds=CANDIDATE.ds, metrics=metrics(0.9, 0.3))
    checks = by_name(CANDIDATE, same)
    assert [name for name in COMPARISONS if checks[name].skipped] == COMPARISONS[:2]
    assert failed(CANDIDATE, same) == COMPARISONS[2:]


def test_a_backfill_is_not_compared_with_a_newer_champion() -> None:
    newer = replace(CHAMPION, ds="2026-11-04", metrics=None)
    checks = by_name(CANDIDATE, newer)
    assert all(checks[name].skipped and "backfill" in checks[name].reason for name in COMPARISONS)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.9", True])
def test_a_metric_that_is_missing_or_no_number_is_refused(value: Any) -> None:
    broken = metrics(value, value)
    assert failed(replace(CANDIDATE, before=broken)) == ["min_auc", *COMPARISONS[:2]]
    assert failed(replace(CANDIDATE, after=broken)) == COMPARISONS[2:]
    assert failed(CANDIDATE, replace(CHAMPION, metrics=broken)) == COMPARISONS
    assert failed(CANDIDATE, replace(CHAMPION, metrics={})) == COMPARISONS
    assert failed(CANDIDATE, replace(CHAMPION, metrics=None)) == COMPARISONS
    assert failed(replace(CANDIDATE, parity=value)) == ["parity"]


def test_a_tiny_test_set_is_compared_all_the_same_with_a_warning() -> None:
    tiny = replace(CANDIDATE, after=metrics(0.8, 0.45, rows=99))
    assert failed(tiny) == []
    (warning,) = judge(tiny, CHAMPION, GATES)[1]
    assert "99 rows" in warning
    assert failed(replace(tiny, before=metrics(0.5, 0.5, rows=99))) == ["min_auc", "next_day_auc"]
    assert failed(replace(tiny, after={"rows": 0, "auc": None})) == COMPARISONS[2:]


def test_a_difference_to_the_trainer_is_refused() -> None:
    assert failed(replace(CANDIDATE, parity=1.1e-5)) == ["parity"]
    assert failed(replace(CANDIDATE, parity=1e-5)) == []


def test_what_is_not_finite_is_named() -> None:
    broken = replace(CANDIDATE, not_finite=["table user"])
    assert failed(broken) == ["finite"]
    assert "table user" in by_name(broken)["finite"].reason


def test_a_partition_that_was_replaced_since_is_refused() -> None:
    assert failed(replace(CANDIDATE, same_rows=False)) == ["same_rows"]


@pytest.mark.parametrize(
    "change", [{"passed": True}, {"checks": []}, {"passed": True, "checks": []}, {"surprise": 1}]
)
def test_a_verdict_that_contradicts_its_checks_is_none(change: dict[str, Any]) -> None:
    verdict: dict[str, Any] = {
        "version": "v",
        "ds": "2026-11-03",
        "manifest_sha256": "0" * 64,
        "champion": None,
        "passed": False,
        "checks": [{"name": "parity", "passed": False, "reason": "r"}],
        "summary": "s",
        "metrics": {"before": None, "after": {"auc": math.nan}, "champion": None},
    }
    stored = ModelVerdict.model_validate(verdict).to_bytes()
    assert ModelVerdict.model_validate_json(stored).metrics["after"] == {"auc": None}
    assert ModelVerdict.model_validate(verdict).reasons() == ["r"]
    with pytest.raises(ValueError, match="validation error"):
        ModelVerdict.model_validate(verdict | change)


def test_finite_lets_numbers_through_only() -> None:
    given: list[object] = [0, 1.5, -2, math.nan, -math.inf, None, "1", True]
    assert [finite(value) for value in given] == [0.0, 1.5, -2.0, None, None, None, None, None]
