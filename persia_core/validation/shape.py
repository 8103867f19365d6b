"""What the gate asks of the embeddings and the size of a version, apart from its predictions."""

from collections.abc import Mapping
from dataclasses import dataclass

from persia_core.config.gates import Gates
from persia_core.validation.checks import at_least, at_most, skipped
from persia_core.validation.verdict import ModelCheck, finite


@dataclass(frozen=True)
class Norms:
    """Euclidean norms of a table's rows. None where the table has no rows."""

    rows: int
    mean: float | None
    largest: float | None


def shape_checks(
    coverage: Mapping[str, float],
    norms: Mapping[str, Norms],
    champion: Mapping[str, Norms] | None,
    size_bytes: int,
    gates: Gates,
) -> list[ModelCheck]:
    """The checks `coverage`, `norms`, `norms_change` and `size`; tables by name."""
    return [
        _coverage(coverage, gates),
        _norms(norms, gates),
        _change(norms, champion, gates),
        _size(size_bytes, gates),
    ]


def _coverage(coverage: Mapping[str, float], gates: Gates) -> ModelCheck:
    name, limit = "coverage", gates.min_coverage
    if not coverage:
        return skipped(name, "the partition holds no ids")
    known = {table: finite(share) for table, share in coverage.items()}
    table, value = min(known.items(), key=lambda each: (-1.0 if each[1] is None else each[1], each[0]))
    if value is None:
        return at_least(name, None, limit, f"the coverage of table {table} is missing or not a number")
    reason = (
        f"{value:.1%} of the ids of the partition have a row in table {table}, the least of all tables; "
        f"at least {limit:.1%} is asked for"
    )
    return at_least(name, value, limit, reason)


def _norms(norms: Mapping[str, Norms], gates: Gates) -> ModelCheck:
    name, limit = "norms", gates.max_norm
    known = {table: each.largest for table, each in norms.items() if each.rows}
    if not known:
        return skipped(name, "no table has rows")
    table, value = max(known.items(), key=lambda each: (finite(each[1]) is None, each[1] or 0.0, each[0]))
    if finite(value) is None:
        return at_most(name, None, limit, f"the norms of table {table} are missing or not numbers")
    reason = f"the longest row has norm {value:.4g}, in table {table}; at most {limit:g} is allowed"
    return at_most(name, value, limit, reason)


def _change(norms: Mapping[str, Norms], champion: Mapping[str, Norms] | None, gates: Gates) -> ModelCheck:
    """The mean norm of each table against the champion's, whichever is the larger over the smaller."""
    name, limit = "norms_change", gates.max_norm_change
    if champion is None:
        return skipped(name, "there is no champion with the same tables")
    worst: tuple[float, str, float, float] | None = None
    for table, theirs in champion.items():
        ours = norms.get(table)
        before = finite(theirs.mean)
        if not theirs.rows or not before:  # an empty table, or one of zeros
            continue
        after = finite(ours.mean) if ours is not None and ours.rows else None
        if after is None:
            reason = f"table {table} has no rows or no norms, the champion's has {theirs.rows} rows"
            return at_most(name, None, limit, reason)
        ratio = max(after / before, before / after) if after else float("inf")
        if worst is None or ratio > worst[0]:
            worst = (ratio, table, after, before)
    if worst is None:
        return skipped(name, "the champion's tables hold no rows to compare with")
    ratio, table, after, before = worst
    reason = (
        f"the mean norm of table {table} is {after:.4g}, the champion's {before:.4g}; "
        f"a factor of at most {limit:g} is allowed"
    )
    return at_most(name, finite(ratio), limit, reason)


def _size(size_bytes: int, gates: Gates) -> ModelCheck:
    name, limit = "size", gates.max_bytes
    if limit is None:
        return skipped(name, f"{size_bytes:,} bytes; no budget is set (gates.max_bytes)")
    return at_most(name, float(size_bytes), float(limit), f"{size_bytes:,} bytes, {limit:,} are allowed")
