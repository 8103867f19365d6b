"""The rules of a hashed partition beside the ones before it. See docs/formats/data_checks.md."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from persia_core.config import ModelConfig
from persia_core.config.data_checks import FactorBand, MarginBand
from persia_core.validation.bands import (
    Range,
    distinct_range,
    factor_range,
    margin_range,
    odds_range,
    share_range,
)
from persia_core.validation.data_rules import Rule, missing_share
from persia_core.validation.expectations import expectation_classes
from persia_core.validation.history import History, Past

NO_OTHER = "no other partition"
_KINDS = {"min": "least value", "max": "greatest value", "mean": "mean"}


def history_figures(current: Past, history: History) -> dict[str, Any]:
    """Figures that only the rules here look at, for the frame of `data_rules.figures`."""
    found: dict[str, Any] = {f"distinct.{name}": count for name, count in current.distinct.items()}
    for name, values in current.dense.items():
        found |= {f"{kind}.{name}": value for kind, value in zip(_KINDS, values, strict=True)}
    newest = history.newest
    if newest is not None:
        twins = [past.ds for past in (*history.partitions, *history.others) if past.digest == current.digest]
        found["schema_before"] = newest.schema_fingerprint[:12]
        found["same_rows_as"] = f"ds={twins[-1]}" if twins else NO_OTHER
    return found | {"absent": history.absent, "unreadable": len(history.unreadable)}


def history_rules(config: ModelConfig, ds: str, current: Past, history: History) -> list[Rule]:
    """Rules over those figures. A name stands there up to twice: for where it warns and where it fails."""
    checks = config.data_checks.history
    past = [each for each in history.partitions if each.rows]
    enough = len(past) >= checks.min_partitions
    since = f"from {last_partitions(len(past))}"
    rules = _sequence_rules(config, ds, history)
    for figure in _figures(config, current, past) if past and current.rows else ():
        rules.append(figure.rule("warn", figure.band.warn, since))
        if enough and figure.band.fail is not None:
            rules.append(figure.rule("fail", figure.band.fail, since))
    return rules


def history_in_words(config: ModelConfig, ds: str, history: History) -> str:
    """What a partition was compared with, and why not with more."""
    checks, days = config.data_checks.history, history.days
    if not checks.partitions:
        return "compared with no other partition: data_checks.history.partitions is 0"
    if history.newest is None and not history.unreadable:
        return f"nothing to compare with: there is no partition before ds={ds}"
    reasons = {"of another schema": len(history.others), "unreadable": len(history.unreadable)}
    left_out = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    words = f" (left out: {left_out})" if left_out else ""
    if not days:
        return f"nothing to compare with: no partition before ds={ds} can be compared{words}"
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    few = f"; these only warn until there are {checks.min_partitions}"
    return f"compared with {last_partitions(len(days))}, {span}{words}" + (
        few if len(days) < checks.min_partitions else ""
    )


def last_partitions(count: int) -> str:
    """So many trailing partitions, in words."""
    return "the last partition" if count == 1 else f"the last {count} partitions"


@dataclass(frozen=True)
class _Figure:
    """`expected`: from the band's factor or margin to a range of the values in `column`."""

    name: str
    column: str
    band: FactorBand | MarginBand
    expected: Callable[[float], Range]
    whole: bool = False  # a number of something

    def rule(self, severity: Any, limit: float, since: str) -> Rule:
        low, high = self.expected(limit)
        between = expectation_classes().ExpectColumnValuesToBeBetween(
            column=self.column, min_value=low, max_value=high
        )
        spelled = f"{low:.0f}–{high:.0f}" if self.whole else f"{low:.4g}–{high:.4g}"
        return Rule(
            f"{self.name} beside earlier partitions", between, f"{spelled} {since}", self._say, severity
        )

    def _say(self, value: Any) -> str:
        return f"{self.name} {value}" if self.whole else f"{self.name} {value:.4g}"


def _figures(config: ModelConfig, current: Past, past: list[Past]) -> Iterator[_Figure]:
    """All figures that this partition and earlier ones have."""
    checks, rows = config.data_checks.history, current.rows
    yield _Figure("rows", "rows", checks.rows, partial(factor_range, [p.rows for p in past]), whole=True)
    rates = [p.label_rate for p in past if p.label_rate is not None]
    if rates and current.label_rate is not None:
        yield _Figure("label rate", "label_rate", checks.label_rate, partial(odds_range, rates, rows=rows))
    for name in (feature.name for feature in config.features):
        shares = [p.missing[name] for p in past if name in p.missing]
        if shares and name in current.missing:
            expected = partial(share_range, shares, rows=rows)
            yield _Figure(f"missing share of {name}", missing_share(name), checks.missing, expected)
        counts = [(p.distinct[name], p.rows) for p in past if name in p.distinct]
        if counts and name in current.distinct:
            expected = partial(distinct_range, counts, rows=rows)
            yield _Figure(f"distinct values of {name}", f"distinct.{name}", checks.distinct, expected, True)
        ranges = [p.dense[name] for p in past if name in p.dense]
        if ranges and name in current.dense:
            width = max(high for _, high, _ in ranges) - min(low for low, _, _ in ranges)
            for kind, values in zip(_KINDS, zip(*ranges, strict=True), strict=True):
                band = checks.mean if kind == "mean" else checks.extremes
                expected = partial(margin_range, values, unit=width or 1.0)
                yield _Figure(f"{_KINDS[kind]} of {name}", f"{kind}.{name}", band, expected)


def _sequence_rules(config: ModelConfig, ds: str, history: History) -> list[Rule]:
    """What holds between a partition and the ones before it, whatever its rows are."""
    gxe = expectation_classes()
    rules = [
        Rule(
            "partition before",
            gxe.ExpectColumnValuesToBeInSet(column="absent", value_set=[0]),
            "none",
            lambda count: f"{count} partitions right before ds={ds} are not there",
            "warn",
        ),
        Rule(
            "earlier manifests",
            gxe.ExpectColumnValuesToBeInSet(column="unreadable", value_set=[0]),
            "none",
            lambda count: (
                f"{count} manifests of earlier partitions are damaged"
                + (f" ({', '.join(history.unreadable)})" if history.unreadable else "")
            ),
            "warn",
        ),
    ]
    newest = history.newest
    if newest is None:
        return rules
    own, before = config.schema_fingerprint()[:12], newest.schema_fingerprint[:12]
    since = config.data_checks.schema_since
    expected, allowed = f"{own} as here", [own]
    if before != own:
        expected += f"; if the features were changed on purpose, set data_checks.schema_since: {ds}"
        if since is not None and newest.ds < since.isoformat() <= ds:
            expected, allowed = f"a change, as data_checks.schema_since {since} declares it", [own, before]
    return [
        *rules,
        Rule(
            "schema unchanged",
            gxe.ExpectColumnValuesToBeInSet(column="schema_before", value_set=allowed),
            expected,
            lambda fingerprint: f"the schema of ds={newest.ds} is {fingerprint}",
        ),
        Rule(
            "rows of its own",
            gxe.ExpectColumnValuesToBeInSet(column="same_rows_as", value_set=[NO_OTHER]),
            "rows of its own: was a day delivered twice?",
            lambda other: f"the rows are those of {other}",
        ),
    ]
