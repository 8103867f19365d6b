"""When trainers meet: often enough for the interval, seldom enough not to be noticed, always at the end."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core.config.checkpointing import Checkpointing
from persia_core.training.meetings import FIRST_STRETCH, Meetings


def run(rules: dict[str, Any], steps: int, pace: float, pause: float = 0.0, first: int = 0) -> Any:
    """Steps at which trainers met and the (step, time) of cuts, for a training of `pace` seconds a step."""
    now = [100.0]
    meetings = Meetings(Checkpointing(**rules), first, steps, lambda: now[0])
    at, met, cuts = first, [], []
    while True:
        cut, until = meetings.plan(at)
        met.append(at)
        if cut:
            cuts.append((at, now[0]))
            now[0] += pause
            meetings.go_on()
        if at == steps:
            return met, cuts
        assert at < until <= steps
        now[0] += (until - at) * pace
        at = until


NEVER = {"every_seconds": None, "every_steps": None}


def test_without_rules_trainers_meet_at_the_end_only() -> None:
    assert run(NEVER, 1000, 0.1) == ([0, 1000], [])


@pytest.mark.parametrize("first", [0, 3, 10, 12])
def test_cuts_by_steps_are_at_the_same_steps_wherever_a_run_went_on(first: int) -> None:
    _, cuts = run(NEVER | {"every_steps": 10}, 55, 0.1, first=first)
    assert [step for step, _ in cuts] == [step for step in (10, 20, 30, 40, 50) if step > first]


def test_the_last_step_is_no_cut_for_the_checkpoint_follows() -> None:
    assert [step for step, _ in run(NEVER | {"every_steps": 5}, 10, 0.1)[1]] == [5]


@given(seconds=st.floats(1, 1000), pace=st.floats(1e-4, 10), pause=st.floats(0, 20))
def test_cuts_by_time_come_in_the_interval_and_meetings_are_few(
    seconds: float, pace: float, pause: float
) -> None:
    steps = int(min(20_000, 6 * seconds / pace)) + 1
    met, cuts = run({"every_seconds": seconds}, steps, pace, pause)
    times = [100.0, *(when for _, when in cuts)]
    late = max(pace, FIRST_STRETCH * pace)  # the first stretch is as long as it is
    assert all(0.9 * seconds <= b - a <= seconds + late + pause for a, b in pairwise(times))
    assert steps * pace < seconds or cuts or steps < FIRST_STRETCH
    assert len(met) <= 20 + 3 * len(cuts), "doubling, and then one or two a cut"


def test_whichever_is_due_first_takes_the_cut() -> None:
    _, cuts = run({"every_seconds": 10.0, "every_steps": 1000}, 2500, 0.02)
    assert {1000, 2000} <= {step for step, _ in cuts}
    assert len(cuts) >= 4
