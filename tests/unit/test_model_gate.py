"""The model gate: what passes, what is refused, and what is skipped with which reason."""

import math
from dataclasses import replace
from typing import Any

import pytest

from persia_core.config.gates import Gates
from persia_core.validation.gate import Candidate, Champion, judge
from persia_core.validation.paired import Comparison, Difference
from persia_core.validation.shape import Norms
from persia_core.validation.verdict import ModelCheck, ModelVerdict, finite

GATES = Gates(min_rows=100, min_auc=0.6, max_auc_drop=0.01, max_normalised_entropy_rise=0.02)
ERROR = 0.001  # standard error of every difference; times 1.645 at 95 % confidence
BOUND = 1.6449 * ERROR


def metrics(auc: Any = 0.75, entropy: Any = 0.8, rows: int = 1000, calibration: Any = 1.0) -> dict[str, Any]:
    return {"rows": rows, "auc": auc, "normalised_entropy": entropy, "calibration": calibration}


def compared(
    auc: float | None = 0.75,
    entropy: float | None = 0.8,
    rows: int = 1000,
    error: float | None = ERROR,
    theirs: tuple[float | None, float | None] = (0.75, 0.8),
) -> Comparison:
    return Comparison(rows, Difference(auc, theirs[0], error), Difference(entropy, theirs[1], error))


NORMS = {"user": Norms(100, 1.0, 3.0), "item": Norms(50, 2.0, 2.5)}
CANDIDATE = Candidate(
    version="2026-11-03-aaaaaaaaaaaa",
    ds="2026-11-03",
    schema_fingerprint="s",
    same_rows=True,
    before=metrics(),
    after=metrics(0.80, 0.75),
    parity=1e-7,
    not_finite=[],
    line=metrics(),
    next_day=compared(),
    after_training=compared(0.80, 0.75),
    coverage={"user": 0.99, "item": 0.9},
    norms=NORMS,
    size_bytes=1_000_000,
)
CHAMPION = Champion("2026-11-02-bbbbbbbbbbbb", "2026-11-02", "s", metrics(), NORMS)
COMPARISONS = [
    *("next_day_auc", "next_day_normalised_entropy"),
    *("after_training_auc", "after_training_normalised_entropy"),
]
OTHERS = [
    *("same_rows", "finite", "parity", "min_auc", "calibration", "slices", "restored"),
    *("coverage", "norms", "norms_change", "size"),
]


def checks_of(
    candidate: Candidate, champion: Champion | None = CHAMPION, gates: Gates = GATES
) -> dict[str, ModelCheck]:
    return {check.name: check for check in judge(candidate, champion, gates)[0]}


def failed(candidate: Candidate, champion: Champion | None = CHAMPION, gates: Gates = GATES) -> list[str]:
    return [check.name for check in judge(candidate, champion, gates)[0] if not check.passed]


def gates(**changes: Any) -> Gates:
    return GATES.model_copy(update=changes)


def test_a_good_candidate_passes_every_check() -> None:
    checks, warnings = judge(CANDIDATE, CHAMPION, GATES)
    assert [check.name for check in checks] == OTHERS + COMPARISONS
    assert all(check.passed and check.reason for check in checks)
    assert [check.name for check in checks if check.skipped] == ["slices", "size"]  # nothing is asked of them
    assert warnings == []


@pytest.mark.parametrize("stage", ["next_day", "after_training"])
@pytest.mark.parametrize(
    ("auc", "entropy", "which"),
    [
        (0.7401 + BOUND, 0.8199 - BOUND, []),  # not worse than the margins, error included
        (0.7399 + BOUND, 0.80, ["auc"]),
        (0.75, 0.8201 - BOUND, ["normalised_entropy"]),
        (0.70, 0.90, ["auc", "normalised_entropy"]),
        (0.99, 0.10, []),
    ],
)
def test_a_candidate_must_show_that_it_is_not_worse_by_more_than_the_margin(
    stage: str, auc: float, entropy: float, which: list[str]
) -> None:
    candidate = replace(CANDIDATE, **{stage: compared(auc, entropy)})
    assert failed(candidate) == [f"{stage}_{key}" for key in which]
    for key in which:
        reason = checks_of(candidate)[f"{stage}_{key}"].reason
        assert CHAMPION.version in reason
        assert f"{auc if key == 'auc' else entropy:.4f}" in reason


def test_the_sentence_says_whether_it_is_worse_or_only_not_known() -> None:
    def reason(auc: float, error: float) -> str:
        return checks_of(replace(CANDIDATE, next_day=compared(auc, error=error)))["next_day_auc"].reason

    start = f"AUC {{}} before training, champion {CHAMPION.version} 0.7500: "
    assert reason(0.76, 0.001) == start.format("0.7600") + (
        "better by 0.0100; at 95% confidence worse by 0.0000 at most, 0.01 is allowed"
    )
    assert reason(0.70, 0.001) == start.format("0.7000") + (
        "worse by 0.0500, at 95% confidence by at least 0.0484; 0.01 is allowed"
    )
    assert reason(0.735, 0.01) == start.format("0.7350") + "worse by 0.0150; 0.01 is allowed"
    # 0.01645 of error have to shrink to the 0.01 that is allowed: 1000 * 1.645^2 rows
    assert reason(0.75, 0.01) == start.format("0.7500") + (
        "no difference, but 1000 rows cannot rule out 0.0164 at 95% confidence; 0.01 is allowed "
        "(about 2,800 rows would)"
    )


def test_more_confidence_asks_for_more_rows() -> None:
    candidate = replace(CANDIDATE, next_day=compared(0.745, error=0.002))
    assert failed(candidate, gates=gates(confidence=0.95)) == []
    assert failed(candidate, gates=gates(confidence=0.999)) == [
        "next_day_auc",
    ]


def test_the_first_model_is_judged_by_what_needs_no_champion() -> None:
    checks = checks_of(CANDIDATE, None)
    assert all(checks[name].skipped and "no champion yet" in checks[name].reason for name in COMPARISONS)
    assert checks["norms_change"].skipped
    assert failed(CANDIDATE, None) == []
    assert failed(replace(CANDIDATE, before=metrics(0.59), line=None), None) == ["min_auc"]


def test_on_a_cold_start_the_floor_is_on_the_metrics_after_training() -> None:
    cold = replace(CANDIDATE, before=None, line=None, next_day=None)
    checks = checks_of(cold)
    assert checks["min_auc"].value == 0.80
    assert checks["restored"].skipped
    assert [name for name in COMPARISONS if checks[name].skipped] == COMPARISONS[:2]
    assert failed(replace(cold, after=metrics(0.59)), None) == ["min_auc"]


def test_a_champion_of_another_schema_is_not_compared_and_the_floor_still_holds() -> None:
    other = Champion(CHAMPION.version, CHAMPION.ds, "t", None)
    checks = checks_of(CANDIDATE, other)
    assert all(checks[name].skipped and "other features" in checks[name].reason for name in COMPARISONS)
    assert failed(CANDIDATE, other) == []
    assert failed(replace(CANDIDATE, before=metrics(0.5), line=metrics(0.5)), other) == ["min_auc"]


def test_a_champion_of_the_same_day_is_compared_after_training_only() -> None:
    same = replace(CHAMPION, ds=CANDIDATE.ds)
    candidate = replace(CANDIDATE, after_training=compared(0.8, 0.75, theirs=(0.9, 0.6)))
    checks = checks_of(candidate, same)
    assert [name for name in COMPARISONS if checks[name].skipped] == COMPARISONS[:2]
    assert failed(candidate, same) == COMPARISONS[2:]


def test_a_backfill_is_not_compared_with_a_newer_champion() -> None:
    newer = Champion(CHAMPION.version, "2026-11-04", "s", None)
    checks = checks_of(CANDIDATE, newer)
    assert all(checks[name].skipped and "backfill" in checks[name].reason for name in COMPARISONS)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.9", True])
def test_a_metric_that_is_missing_or_no_number_is_refused(value: Any) -> None:
    broken = metrics(value, value, calibration=value)
    assert failed(replace(CANDIDATE, before=broken)) == ["min_auc", "calibration", "restored"]
    unpaired = replace(CANDIDATE, before=broken, line=None, next_day=None)
    assert failed(unpaired) == ["min_auc", "calibration", *COMPARISONS[:2]]
    assert failed(replace(CANDIDATE, line=broken)) == ["restored"]
    assert failed(replace(CANDIDATE, after=broken, after_training=None)) == COMPARISONS[2:]
    alone = replace(CANDIDATE, next_day=None, after_training=None)
    for theirs in (broken, {}, None):
        assert failed(alone, replace(CHAMPION, metrics=theirs)) == COMPARISONS
    assert failed(replace(CANDIDATE, parity=value)) == ["parity"]
    assert failed(replace(CANDIDATE, coverage={"user": value})) == ["coverage"]
    assert failed(replace(CANDIDATE, norms={**NORMS, "user": Norms(100, value, value)})) == [
        *("norms", "norms_change"),
    ]
    slices = {"hour": [{"value": "3", "rows": 5000, "auc": value}]}
    assert failed(replace(CANDIDATE, slices=slices), gates=gates(min_slice_auc=0.5)) == ["slices"]


def test_a_metric_undefined_on_these_rows_is_refused() -> None:
    undefined = Comparison(1000, Difference(None, None), Difference(None, None))
    assert failed(replace(CANDIDATE, next_day=undefined)) == COMPARISONS[:2]


def test_a_tiny_test_set_is_judged_by_the_figures_alone_or_refused() -> None:
    def tiny(auc: float) -> Candidate:
        few = compared(auc, rows=99, error=0.05)
        return replace(CANDIDATE, after=metrics(0.8, 0.75, rows=99), next_day=few, after_training=few)

    assert failed(tiny(0.745)) == []
    (warning,) = judge(tiny(0.745), CHAMPION, GATES)[1]
    assert "99 rows" in warning
    assert "the figures alone decide" in checks_of(tiny(0.745))["next_day_auc"].reason
    assert failed(tiny(0.73)) == ["next_day_auc", "after_training_auc"]
    assert failed(tiny(0.80), gates=gates(tiny_test_set="refuse")) == COMPARISONS
    # one row more, and the same uncertainty keeps the champion
    enough = replace(CANDIDATE, next_day=compared(rows=100, error=0.05))
    assert failed(enough) == COMPARISONS[:2]


def test_calibration_on_a_tiny_test_set_is_not_judged() -> None:
    assert failed(replace(CANDIDATE, before=metrics(calibration=9.0, rows=100))) == ["calibration"]
    assert checks_of(replace(CANDIDATE, before=metrics(calibration=9.0, rows=99)))["calibration"].skipped


def test_without_the_parent_version_the_figures_decide_with_a_warning() -> None:
    alone = replace(CANDIDATE, line=None, next_day=None)
    assert failed(alone) == []
    assert "row by row" in judge(alone, CHAMPION, GATES)[1][0]
    assert checks_of(alone)["restored"].skipped
    assert failed(replace(alone, before=metrics(0.739))) == ["next_day_auc"]
    assert failed(alone, gates=gates(tiny_test_set="refuse")) == COMPARISONS[:2]


def test_what_was_lost_between_publishing_and_restoring_is_found() -> None:
    assert failed(replace(CANDIDATE, before=metrics(0.7401))) == []
    assert failed(replace(CANDIDATE, before=metrics(0.7399))) == ["restored"]


@pytest.mark.parametrize(("value", "passes"), [(0.49, False), (0.5, True), (2.0, True), (2.01, False)])
def test_calibration_must_lie_within_its_bounds(value: float, passes: bool) -> None:
    assert (failed(replace(CANDIDATE, before=metrics(calibration=value))) == []) is passes


def test_the_worst_slice_that_is_large_enough_must_reach_the_floor() -> None:
    asked = gates(min_slice_auc=0.6, min_slice_rows=500)

    def sliced(*values: tuple[str, int, float | None]) -> Candidate:
        found = [{"value": value, "rows": rows, "auc": auc} for value, rows, auc in values]
        return replace(CANDIDATE, slices={"hour": found})

    assert failed(sliced(("3", 500, 0.6), ("4", 499, 0.1)), gates=asked) == []
    bad = sliced(("3", 900, 0.7), ("4", 500, 0.59), ("5", 600, 0.65))
    assert failed(bad, gates=asked) == ["slices"]
    assert "hour 4 with AUC 0.5900" in checks_of(bad, gates=asked)["slices"].reason
    assert failed(bad) == []  # no floor is set
    assert checks_of(sliced(("4", 9, 0.1)), gates=asked)["slices"].skipped
    assert failed(replace(CANDIDATE, slices=None), gates=asked) == ["slices"]


def test_the_table_with_the_least_coverage_decides() -> None:
    found = replace(CANDIDATE, coverage={"user": 1.0, "item": 0.49})
    assert failed(found) == ["coverage"]
    assert "table item" in checks_of(found)["coverage"].reason
    assert failed(replace(CANDIDATE, coverage={"item": 0.5})) == []
    assert checks_of(replace(CANDIDATE, coverage={}))["coverage"].skipped


def test_norms_are_bounded_and_do_not_jump() -> None:
    def norms(mean: float, largest: float) -> Candidate:
        return replace(CANDIDATE, norms={**NORMS, "item": Norms(50, mean, largest)})

    assert failed(norms(20.0, 1000.0)) == []
    assert failed(norms(0.2, 1.0)) == []
    assert failed(norms(2.0, 1000.1)) == ["norms"]
    assert failed(norms(20.1, 30.0)) == ["norms_change"]
    assert failed(norms(0.19, 1.0)) == ["norms_change"]
    assert failed(norms(0.0, 0.0)) == ["norms_change"]
    empty = replace(CANDIDATE, norms={"user": NORMS["user"], "item": Norms(0, None, None)})
    assert failed(empty) == ["norms_change"]
    assert failed(empty, replace(CHAMPION, norms={"item": Norms(0, None, None)})) == []
    assert failed(replace(CANDIDATE, norms={}), None) == []


def test_a_version_must_fit_its_budget() -> None:
    assert failed(CANDIDATE, gates=gates(max_bytes=1_000_000)) == []
    assert failed(CANDIDATE, gates=gates(max_bytes=999_999)) == ["size"]


def test_a_difference_to_the_trainer_is_refused() -> None:
    assert failed(replace(CANDIDATE, parity=1.1e-5)) == ["parity"]
    assert failed(replace(CANDIDATE, parity=1e-5)) == []


def test_what_is_not_finite_is_named() -> None:
    broken = replace(CANDIDATE, not_finite=["table user"])
    assert failed(broken) == ["finite"]
    assert "table user" in checks_of(broken)["finite"].reason


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


def test_a_verdict_of_before_checks_had_two_bounds_is_still_read() -> None:
    check = {"name": "parity", "passed": True, "value": 0.1, "limit": 0.2, "reason": "r", "skipped": False}
    assert ModelCheck.model_validate(check).value == 0.1


def test_finite_lets_numbers_through_only() -> None:
    given: list[object] = [0, 1.5, -2, math.nan, -math.inf, None, "1", True]
    assert [finite(value) for value in given] == [0.0, 1.5, -2.0, None, None, None, None, None]
