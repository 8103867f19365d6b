"""Contestants take turns, and are opened as often as was asked."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.harness import Contestant, Measure, interleave


@pytest.mark.parametrize(("rounds", "openings"), [(7, 3), (4, 1), (2, 2)])
def test_rounds_are_shared_out_over_openings(rounds: int, openings: int) -> None:
    events: list[str] = []

    def contestant(name: str) -> Contestant:
        @contextmanager
        def opened() -> Iterator[Measure]:
            events.append(f"open {name}")

            def measure(number: int) -> dict[str, float]:
                events.append(f"{name}{number}")
                return {"round": float(number)}

            yield measure
            events.append(f"close {name}")

        return Contestant(name, 1, opened)

    samples = interleave([contestant("a"), contestant("b")], rounds, tries=1, openings=openings)
    for name in ("a", "b"):
        assert samples.values[name]["round"] == list(range(rounds))
        assert events.count(f"open {name}") == events.count(f"close {name}") == openings
    firsts = [i for i, event in enumerate(events) if event.startswith("open")][::2]
    assert [events[i] for i in firsts] == [f"open {'ab'[opening % 2]}" for opening in range(openings)]
    for i in firsts:  # both stand in memory together
        assert {events[i], events[i + 1]} == {"open a", "open b"}
