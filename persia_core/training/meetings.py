"""When the trainers of a run meet, and where they take a cut.

Trainers can only agree on a step that none of them has looked up yet. So each trains up to a step that was
agreed on before and drains; there they meet, trainer 0 decides, and tells the others: whether a cut is taken,
and up to which step it goes on. What it decides from is its own clock, so that clocks need not agree.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from persia_core.config.checkpointing import Checkpointing

FIRST_STRETCH = 32  # steps, after which there is a pace to count with
_GROWTH = 2  # a stretch is at most so many times as long as the longest before, should the pace change
_SOON = 0.05  # of the interval: what is due within it is due now


class Plan(NamedTuple):
    """Whether a cut is taken here, and the step before which trainers meet again."""

    cut: bool
    until: int


class Meetings:
    """What trainer 0 decides; steps are those of the run, from 0 on."""

    def __init__(
        self,
        rules: Checkpointing,
        first: int,
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Training begins now, at step `first` of `steps`; `clock` gives seconds."""
        self._rules = rules
        self._steps = steps
        self._clock = clock
        self._last = first
        self._longest = 0
        self._cut_at = self._met_at = clock()

    def plan(self, step: int) -> Plan:
        """All steps before `step` are done, on every trainer."""
        now = self._clock()
        pace = (now - self._met_at) / (step - self._last) if step > self._last else None
        self._longest = max(self._longest, step - self._last)
        cut = step > self._last and step < self._steps and self._is_due(step, now)
        if cut:
            self._cut_at = now
        self._last, self._met_at = step, now
        return Plan(cut, min(self._until(step, now, pace), self._steps))

    def go_on(self) -> None:
        """The cut is taken: the time that it took says nothing about the pace of training."""
        self._met_at = self._clock()

    def _is_due(self, step: int, now: float) -> bool:
        every, seconds = self._rules.every_steps, self._rules.every_seconds
        by_steps = every is not None and step % every == 0
        return by_steps or (seconds is not None and now - self._cut_at >= (1 - _SOON) * seconds)

    def _until(self, step: int, now: float, pace: float | None) -> int:
        candidates = [self._steps]
        if (every := self._rules.every_steps) is not None:
            candidates.append((step // every + 1) * every)
        if (seconds := self._rules.every_seconds) is not None:
            if pace is None:
                stretch = FIRST_STRETCH
            else:
                left = seconds - (now - self._cut_at)
                limit = _GROWTH * self._longest
                stretch = limit if pace <= 0 else min(int(left / pace), limit)
            candidates.append(step + max(1, stretch))
        return min(candidates)
