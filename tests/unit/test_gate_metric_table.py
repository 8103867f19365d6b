"""Great Expectations and the pure rules of the gate agree on every check."""

import math
from typing import Any

import pytest

from persia_core.validation.checks import at_least, at_most, holds, skipped
from persia_core.validation.metric_table import metric_suite, unmet
from persia_core.validation.verdict import ModelCheck

NUMBERS = [-2.0, -1e-9, 0.0, 1e-9, 0.5, 0.5 + 1e-12, 1.0, 1e30, None]


def every_check() -> list[ModelCheck]:
    found = [holds("holds", True, "r"), holds("does not", False, "r"), skipped("skipped", "r")]
    for number, value in enumerate(NUMBERS):
        for limit in (-1.0, 0.0, 0.5):
            found.append(at_most(f"at most {limit} {number}", value, limit, "r"))
            found.append(at_least(f"at least {limit} {number}", value, limit, "r"))
        inside = value is not None and 0.0 <= value <= 0.5
        both: dict[str, Any] = {"at_least": 0.0, "at_most": 0.5, "reason": "r"}
        found.append(ModelCheck(name=f"between {number}", passed=inside, value=value, **both))
    return found


def test_the_expectations_that_are_not_met_are_those_of_the_checks_that_failed() -> None:
    checks = every_check()
    assert unmet(checks) == {check.name for check in checks if not check.passed}
    assert {check.name for check in checks if check.passed} - {"skipped"}  # of both kinds there are some


def test_the_suite_holds_a_presence_and_a_range_for_each_check() -> None:
    (presence, bounds) = metric_suite([at_most("parity", 1e-6, 1e-5, "r")]).expectations
    assert type(presence).__name__ == "ExpectColumnValuesToNotBeNull"
    assert (presence.column, bounds.column) == ("parity", "parity")
    assert (bounds.min_value, bounds.max_value) == (None, 1e-5)


def test_nothing_to_judge_is_nothing_unmet() -> None:
    assert unmet([skipped("a", "r")]) == set()


def test_a_value_that_is_no_number_cannot_be_in_a_check() -> None:
    with pytest.raises(ValueError, match="finite"):
        at_most("parity", math.nan, 1e-5, "r")
