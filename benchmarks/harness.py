"""Contestants side by side: taken in turn within one run, so that a neighbour slows all of them alike."""

import logging
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from benchmarks.machine import Others, available_bytes

log = logging.getLogger(__name__)

QUIET_CORES = 0.2
SPARE_MEMORY = 0.95  # of what is available; the rest is for batches and the neighbours

Measurements = Mapping[str, float]  # what is measured -> its value
Result = TypeVar("Result")
Measure = Callable[[int], Measurements]  # of the round with this number


@dataclass(frozen=True)
class Contestant:
    """Something to measure: `open` makes it ready and, when left, frees its memory."""

    name: str
    bytes: int  # that it holds while open, about
    open: Callable[[], AbstractContextManager[Measure]]


@dataclass
class Samples:
    """Raw values, one per round, by contestant and by what was measured."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    others_cores: list[float] = field(default_factory=list)  # per round that was kept
    repeated: int = 0  # rounds that were thrown away because others used the machine
    together: bool = True  # False: the memory did not hold all contestants at once

    def add(self, results: Mapping[str, Measurements]) -> None:
        """Keep one round."""
        for name, measured in results.items():
            for what, value in measured.items():
                self.values.setdefault(name, {}).setdefault(what, []).append(value)

    def median(self, name: str, what: str) -> float | None:
        """None if it was not measured."""
        values = self.values.get(name, {}).get(what)
        return statistics.median(values) if values else None

    def ratio(self, name: str, other: str, what: str) -> float | None:
        """The median over rounds of `name` / `other`: both were measured within the same minute."""
        mine, theirs = (self.values.get(n, {}).get(what) for n in (name, other))
        if not mine or not theirs:
            return None
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def interleave(
    contestants: list[Contestant],
    rounds: int,
    tries: int,
    root: int | None = None,
    openings: int = 1,
) -> Samples:
    """Measure every contestant once per round, in turn, the first of a round changing.

    The rounds are shared out over `openings`, each of which opens all contestants anew, another one first:
    which memory a table gets decides how fast it is, and so it gets several. Where memory does not hold all
    of them at once, each is opened and closed again in every round. A round during which others used more
    than QUIET_CORES is repeated, up to `tries` times in all; then the quietest of them is kept, and
    `others_cores` tells how quiet it was. `root`: as for until_quiet.
    """
    samples = Samples(together=sum(c.bytes for c in contestants) < SPARE_MEMORY * available_bytes())
    number = 0
    for opening in range(openings):
        end = rounds * (opening + 1) // openings
        with ExitStack() as stack:
            turns = _rotated(contestants, opening)
            if samples.together:
                turns = [Contestant(c.name, c.bytes, _opened(stack.enter_context(c.open()))) for c in turns]
            while number < end:
                quiet = until_quiet(partial(_round, _rotated(turns, number), number, rounds), tries, root)
                samples.repeated += quiet.repeated
                samples.others_cores.append(quiet.others_cores)
                samples.add(quiet.result)
                log.info("round %d of %d: others used %.2f cores", number + 1, rounds, quiet.others_cores)
                number += 1
    return samples


def _rotated(contestants: list[Contestant], by: int) -> list[Contestant]:
    by %= len(contestants)
    return contestants[by:] + contestants[:by]


@dataclass(frozen=True)
class Quiet(Generic[Result]):
    """The quietest of the tries."""

    result: Result
    others_cores: float
    repeated: int  # tries beyond the first


def until_quiet(work: Callable[[int], Result], tries: int, root: int | None = None) -> Quiet[Result]:
    """Do `work` (given the number of the try) until others used at most QUIET_CORES, `tries` times at most.

    `root`: the process id of the tree that does it, the caller's by default.
    """
    done: list[tuple[float, Result]] = []
    while not done or (done[-1][0] > QUIET_CORES and len(done) < tries):
        others = Others(root)
        result = work(len(done))
        done.append((others.cores(), result))
    cores, result = min(done, key=lambda one: one[0])
    return Quiet(result, round(cores, 3), len(done) - 1)


def _round(order: list[Contestant], number: int, rounds: int, attempt: int) -> dict[str, Measurements]:
    results: dict[str, Measurements] = {}
    for contestant in order:
        with contestant.open() as measure:
            results[contestant.name] = measure(number + attempt * rounds)
    return results


def _opened(measure: Measure) -> Callable[[], AbstractContextManager[Measure]]:
    @contextmanager
    def already_open() -> Iterator[Measure]:
        yield measure

    return already_open
