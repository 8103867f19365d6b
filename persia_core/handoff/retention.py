"""What may be retired: a pure function of what there is and the policy. It deletes nothing.

Whatever is kept says what needs it: an alias, a rollback, its age, or something kept that names it, as a
delta names the version that it is applied to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from persia_core.config.retention import Retention
from persia_core.handoff.pointer import Pointer

Kind = Literal["version", "checkpoint", "partition"]


@dataclass(frozen=True)
class Stored:
    """A complete prefix. `name` is a version's name, and the key prefix of a checkpoint or partition.

    `needs` are names of others that have to stay as long as this one does.
    """

    kind: Kind
    name: str
    ds: str
    needs: frozenset[str] = frozenset()
    readable: bool = True


@dataclass(frozen=True)
class Decision:
    """What becomes of a prefix, and why."""

    kind: Kind
    name: str
    ds: str
    keep: bool
    why: str


def plan(
    stored: Sequence[Stored], policy: Retention, champion: Pointer | None, candidate: Pointer | None
) -> list[Decision]:
    """A decision for each of `stored`, newest partition first within its kind.

    Days are counted back from the newest partition of the kind. What cannot be read is kept: nobody knows
    what needs it.
    """
    why: dict[str, str] = {each.name: "its manifest cannot be read" for each in stored if not each.readable}
    for pointer, alias in ((champion, "champion"), (candidate, "candidate")):
        if pointer is not None:
            why.setdefault(pointer.version, f"is {alias}")
            _keep_partition_of(stored, pointer, alias, why)
    for version in _former(champion, policy.champions):
        why.setdefault(version, "was champion: a rollback may go back to it")
    versions = _newest_first(stored, "version")
    for each in versions[: policy.versions]:
        why.setdefault(each.name, f"is one of the newest {policy.versions}")
    _keep_recent(versions, policy.days, why)
    checkpoints = _newest_first(stored, "checkpoint")
    days = sorted({each.ds for each in checkpoints}, reverse=True)[: policy.checkpoint_partitions]
    for each in checkpoints:
        if each.ds in days:
            why.setdefault(each.name, f"is of one of the newest {policy.checkpoint_partitions} partitions")
    partitions = _newest_first(stored, "partition")
    if policy.partition_days is None:
        for each in partitions:
            why.setdefault(each.name, "retention.partition_days is not set")
    else:
        _keep_recent(partitions, policy.partition_days, why)
    _keep_what_is_needed(stored, why)
    return [
        Decision(each.kind, each.name, each.ds, each.name in why, why.get(each.name, "nothing needs it"))
        for each in versions + checkpoints + partitions
    ]


def _newest_first(stored: Sequence[Stored], kind: Kind) -> list[Stored]:
    key: Callable[[Stored], tuple[str, str]] = lambda each: (each.ds, each.name)  # noqa: E731
    return sorted((each for each in stored if each.kind == kind), key=key, reverse=True)


def _former(champion: Pointer | None, count: int) -> list[str]:
    """The last `count` other versions that were champion, each once."""
    if champion is None:
        return []
    found = dict.fromkeys(move.version for move in champion.history if move.version != champion.version)
    return list(found)[:count]


def _keep_recent(stored: Sequence[Stored], days: int, why: dict[str, str]) -> None:
    if not stored:
        return
    newest = max(each.ds for each in stored)
    oldest = (date.fromisoformat(newest) - timedelta(days=days)).isoformat()
    for each in stored:
        if each.ds >= oldest:
            why.setdefault(each.name, f"is at most {days} days older than {newest}")


def _keep_partition_of(stored: Sequence[Stored], pointer: Pointer, alias: str, why: dict[str, str]) -> None:
    for each in stored:
        if each.kind == "partition" and each.ds == pointer.ds:
            why.setdefault(each.name, f"the {alias} was trained on it")


def _keep_what_is_needed(stored: Sequence[Stored], why: dict[str, str]) -> None:
    """The parents of the deltas in versions that are kept, and the checkpoints of all versions that are.

    One step back, not the whole line: a version is complete without its delta, so that nothing asks for the
    parent of one that is kept for the delta of another.
    """
    known = {each.name: each for each in stored}
    for kind in ("version", "checkpoint"):
        for name in [each.name for each in stored if each.name in why]:
            for needed in sorted(known[name].needs):
                if needed in known and known[needed].kind == kind:
                    why.setdefault(needed, f"{name} needs it")
