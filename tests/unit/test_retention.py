"""What the retention policy keeps, and why: against rules written out one by one."""

import random
from datetime import date, timedelta

import pytest

from persia_core.config.retention import Retention
from persia_core.handoff.pointer import Move, Pointer
from persia_core.handoff.retention import Decision, Stored, plan


def day(number: int) -> str:
    return (date(2026, 11, 1) + timedelta(days=number)).isoformat()


def name(number: int) -> str:
    return f"{day(number)}-{number:012x}"


def version(
    number: int, *, checkpoint: bool = True, delta_of: int | None = None, readable: bool = True
) -> Stored:
    needs = {f"checkpoint {number}"} if checkpoint else set()
    if delta_of is not None:
        needs.add(name(delta_of))
    return Stored("version", name(number), day(number), frozenset(needs), readable)


def checkpoint(number: int) -> Stored:
    return Stored("checkpoint", f"checkpoint {number}", day(number))


def partition(number: int) -> Stored:
    return Stored("partition", f"partition {number}", day(number))


def pointer(*numbers: int) -> Pointer:
    """Names the first of these; the others were named before it."""
    moves = [Move(version=name(n), ds=day(n), manifest_sha256="0" * 64, reason="r") for n in numbers]
    return Pointer(**dict(moves[0]), history=moves[1:], newest_ds=max(move.ds for move in moves))


def kept(decisions: list[Decision], kind: str = "version") -> list[str]:
    return [each.name for each in decisions if each.keep and each.kind == kind]


def names(*numbers: int) -> list[str]:
    return [name(n) for n in sorted(numbers, reverse=True)]


SMALL = Retention(versions=2, days=0, champions=1, checkpoint_partitions=1)


def test_the_newest_versions_are_kept_whatever_their_age() -> None:
    stored = [version(n) for n in (0, 100, 200, 300)]
    assert kept(plan(stored, SMALL, None, None)) == names(200, 300)


def test_versions_are_kept_for_some_days_counted_from_the_newest() -> None:
    stored = [version(n) for n in range(10)]
    policy = SMALL.model_copy(update={"days": 4})
    assert kept(plan(stored, policy, None, None)) == names(5, 6, 7, 8, 9)


def test_what_an_alias_names_and_a_rollback_may_need_is_kept() -> None:
    stored = [version(n) for n in range(10)]
    decisions = plan(stored, SMALL, pointer(3, 5, 3, 4), pointer(1))
    assert kept(decisions) == names(9, 8, 5, 3, 1)
    why = {each.name: each.why for each in decisions}
    assert why[name(3)] == "is champion"
    assert why[name(1)] == "is candidate"
    assert "rollback" in why[name(5)]
    assert why[name(0)] == "nothing needs it"
    two = SMALL.model_copy(update={"champions": 2})
    assert kept(plan(stored, two, pointer(3, 5, 3, 4), None)) == names(9, 8, 5, 4, 3)


def test_what_a_kept_delta_is_applied_to_is_kept_with_its_checkpoint() -> None:
    stored = [version(0), version(1, delta_of=0), version(2, delta_of=1), version(3), version(4, delta_of=2)]
    one = SMALL.model_copy(update={"versions": 1})
    checkpoints = [checkpoint(n) for n in range(5)]
    decisions = plan(stored + checkpoints, one, None, None)
    assert kept(decisions) == names(2, 4)  # 2 is complete without its own delta: 1 may go
    assert kept(decisions, "checkpoint") == ["checkpoint 4", "checkpoint 2"]
    assert kept(plan(stored[:-1], one, None, None)) == names(3)


def test_checkpoints_of_kept_versions_and_of_the_newest_partitions_are_kept() -> None:
    stored = [version(n) for n in range(6)] + [checkpoint(n) for n in range(8)]
    found = kept(plan(stored, SMALL, pointer(1), None), "checkpoint")
    assert found == [f"checkpoint {n}" for n in (7, 5, 4, 1)]
    runs = [Stored("checkpoint", f"ds/{run}", day(9)) for run in "abc"]
    assert len(kept(plan(stored + runs, SMALL, None, None), "checkpoint")) == 5


def test_partitions_are_kept_unless_a_number_of_days_is_set() -> None:
    stored = [version(2), *(partition(n) for n in range(10))]
    assert len(kept(plan(stored, SMALL, None, None), "partition")) == 10
    policy = SMALL.model_copy(update={"partition_days": 2})
    found = kept(plan(stored, policy, pointer(2), pointer(4)), "partition")
    assert found == [f"partition {n}" for n in (9, 8, 7, 4, 2)]


def test_what_cannot_be_read_is_kept() -> None:
    stored = [version(0, readable=False), version(1), version(2), version(3)]
    assert kept(plan(stored, SMALL, None, None)) == names(3, 2, 0)


def test_nothing_stored_is_nothing_decided() -> None:
    assert plan([], SMALL, None, None) == []
    assert plan([], SMALL, pointer(3), pointer(4)) == []


@pytest.mark.parametrize("seed", range(30))
def test_nothing_that_is_needed_is_ever_retired(seed: int) -> None:
    """Random stores: whatever is kept has what it needs, and the newest and the named are always kept."""
    rng = random.Random(seed)
    days = sorted(rng.sample(range(60), rng.randrange(1, 20)))
    stored = [version(n, delta_of=rng.choice([None, *days])) for n in days]
    stored += [checkpoint(n) for n in days] + [partition(n) for n in range(60)]
    policy = Retention(
        versions=rng.randrange(1, 5),
        days=rng.randrange(10),
        champions=rng.randrange(1, 4),
        checkpoint_partitions=rng.randrange(1, 4),
        partition_days=rng.choice([None, 5]),
    )
    champion = pointer(*rng.choices(days, k=rng.randrange(1, 6)))
    candidate = pointer(rng.choice(days))
    decisions = plan(stored, policy, champion, candidate)
    assert sorted(each.name for each in decisions) == sorted(each.name for each in stored)
    keep = {each.name for each in decisions if each.keep}
    for each in stored:
        if each.name in keep:
            assert {need for need in each.needs if need.startswith("checkpoint")} <= keep
        if each.name in {champion.version, candidate.version, *names(*days[-policy.versions :])}:
            assert each.needs <= keep
    assert {champion.version, candidate.version, name(days[-1]), f"checkpoint {days[-1]}"} <= keep
    former = list(dict.fromkeys(m.version for m in champion.history if m.version != champion.version))
    assert set(former[: policy.champions]) <= keep
    assert set(names(*days[-policy.versions :])) <= keep
