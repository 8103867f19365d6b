"""The rules of a hashed partition: each one a Great Expectations expectation and words for people."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pyarrow.compute as pc

from persia_core.config import ModelConfig
from persia_core.config.features import DenseFeature
from persia_core.data.schema import LABEL, TIME, WEIGHT, hashed_columns
from persia_core.handoff.manifest import Manifest
from persia_core.validation.expectations import expectation_classes
from persia_core.validation.sample import PartitionSample, prefix_column

UNKNOWN = -1  # stands for a figure that the manifest lacks; every rule refuses it
AS_DECLARED = "as declared"
FLOAT32_MAX = 3.4028234663852886e38


@dataclass(frozen=True)
class Rule:
    """`say` words an observed value; `expected` is what comes after it; `severity`: what breaking it is."""

    name: str
    expectation: Any
    expected: str
    say: Callable[[Any], str]
    severity: Literal["warn", "fail"] = "fail"

    def reason(self, observed: Any) -> str:
        """One sentence: what was found and what was expected."""
        return f"{self.say(observed)}, expected {self.expected}"


def figures(config: ModelConfig, manifest: Manifest, sample: PartitionSample) -> dict[str, Any]:
    """Figures of the whole partition, one value each: what `figure_rules` looks at."""
    rows = sample.rows_in_files
    details = manifest.details
    listed = [part.rows for part in manifest.parts if part.rows is not None]
    found: dict[str, Any] = {
        "schema": sample.schema_difference or AS_DECLARED,
        "rows": rows,
        "rows_in_manifest": sum(listed) if len(listed) == len(manifest.parts) else UNKNOWN,
        "rows_kept": details.get("rows_kept", UNKNOWN),
        "label_rate": details.get("label_rate", UNKNOWN),
    }
    if config.dataset.time_column is not None and sample.rows is not None and sample.rows.num_rows:
        found["newest_time"] = pc.max(sample.rows[TIME]).as_py()
    for feature in config.features:
        missing = details.get("features", {}).get(feature.name, {}).get("missing")
        found[missing_share(feature.name)] = UNKNOWN if missing is None or not rows else missing / rows
    return found


def figure_rules(config: ModelConfig, ds: str, rows: int) -> list[Rule]:
    """Rules over the one-row frame of `figures`; `rows` is the number of rows in the files."""
    gxe = expectation_classes()

    checks = config.data_checks
    low, high = checks.label_rate
    declared = ", ".join(hashed_columns(config))
    rules = [
        Rule(
            "schema",
            gxe.ExpectColumnValuesToBeInSet(column="schema", value_set=[AS_DECLARED]),
            f"the columns {declared}",
            str,
        ),
        Rule(
            "rows",
            gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=checks.min_rows),
            f"at least {checks.min_rows}",
            lambda rows: f"{rows} rows",
        ),
        Rule(
            "rows in the manifest",
            gxe.ExpectColumnValuesToBeInSet(column="rows_in_manifest", value_set=[rows]),
            f"the {rows} that the files hold",
            lambda rows: f"rows of the parts in the manifest: {_known(rows)}",
        ),
        Rule(
            "rows kept",
            gxe.ExpectColumnValuesToBeInSet(column="rows_kept", value_set=[rows]),
            f"the {rows} that the files hold",
            lambda rows: f"rows kept by hashing: {_known(rows)}",
        ),
        Rule(
            "label rate",
            gxe.ExpectColumnValuesToBeBetween(column="label_rate", min_value=low, max_value=high),
            f"{low:.4g}–{high:.4g}",
            lambda rate: f"label rate {_known(rate)}",
        ),
    ]
    if config.dataset.time_column is not None:
        rules.append(_newest_time_rule(ds))
    return rules + [
        Rule(
            f"missing share of {feature.name}",
            gxe.ExpectColumnValuesToBeBetween(
                column=missing_share(feature.name), min_value=0, max_value=checks.max_missing_share
            ),
            f"at most {checks.max_missing_share:.4g}",
            _say_share(feature.name),
        )
        for feature in config.features
    ]


def value_rules(config: ModelConfig, ds: str) -> list[Rule]:
    """Rules over the rows of `sample_frame`. Observed is {"rows", "wrong", "examples"}."""
    gxe = expectation_classes()

    rules = [
        _present(LABEL),
        Rule(
            "label value",
            gxe.ExpectColumnValuesToBeInSet(column=LABEL, value_set=[0.0, 1.0]),
            "0 or 1",
            _say_values(LABEL),
        ),
        *_time_rules(config, ds),
    ]
    if config.dataset.weight is not None:
        weights = gxe.ExpectColumnValuesToBeBetween(column=WEIGHT, min_value=0, max_value=FLOAT32_MAX)
        rules += [
            _present(WEIGHT),
            Rule("weight value", weights, "finite numbers of at least 0", _say_values(WEIGHT)),
        ]
    for feature in config.features:
        name = feature.name
        if isinstance(feature, DenseFeature):
            finite = gxe.ExpectColumnValuesToBeBetween(
                column=name, min_value=-FLOAT32_MAX, max_value=FLOAT32_MAX
            )
            rules += [_present(name), Rule(f"{name} finite", finite, "finite numbers", _say_values(name))]
            continue
        prefix = config.table(feature.table).prefix
        rules.append(
            Rule(
                f"{name} prefix",
                gxe.ExpectColumnValuesToBeInSet(column=prefix_column(name), value_set=[float(prefix)]),
                f"{prefix}, that of table {feature.table}",
                _say_values(f"prefix of {name}"),
            )
        )
        if getattr(feature, "missing", None) != "zero":
            rules.append(_present(name))
    return rules


def _time_rules(config: ModelConfig, ds: str) -> list[Rule]:
    gxe = expectation_classes()

    say = _say_values(TIME)
    if config.dataset.time_column is None:
        zero = gxe.ExpectColumnValuesToBeInSet(column=TIME, value_set=[0])
        return [_present(TIME), Rule("time value", zero, "0, as the dataset has no time column", say)]
    days = timedelta(days=config.data_checks.partition_days)
    end = datetime.fromisoformat(ds).replace(tzinfo=UTC) + days
    before = gxe.ExpectColumnValuesToBeBetween(column=TIME, max_value=int(end.timestamp()) - 1)
    return [
        _present(TIME),
        Rule("time not in the future", before, f"times before {end:%Y-%m-%d %H:%M} UTC", say),
        Rule(
            "time in order",
            gxe.ExpectColumnValuesToBeIncreasing(column=TIME),
            "times that never go back",
            say,
        ),
    ]


def _newest_time_rule(ds: str) -> Rule:
    """A partition may hold older rows; if it holds no others, an old day was delivered again."""
    begin = datetime.fromisoformat(ds).replace(tzinfo=UTC)
    reached = expectation_classes().ExpectColumnValuesToBeBetween(
        column="newest_time", min_value=int(begin.timestamp())
    )
    return Rule(
        "time reaches the day",
        reached,
        f"one from {begin:%Y-%m-%d %H:%M} UTC on",
        lambda time: f"the newest row is of {_moment(time)}",
        "warn",
    )


def _moment(time: Any) -> str:
    """A time that is no time of Unix seconds between the years 1 and 9999 as it stands."""
    try:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
    except (TypeError, ValueError, OverflowError, OSError):
        return str(time)


def _present(column: str) -> Rule:
    expectation = expectation_classes().ExpectColumnValuesToNotBeNull(column=column)
    return Rule(f"{column} present", expectation, "none to be null or NaN", _say_null(column))


def missing_share(name: str) -> str:
    """Name of the figure that is a feature's share of missing values."""
    return f"missing_share.{name}"


def _known(value: float | None) -> str:
    if value is None or value == UNKNOWN:
        return "unknown (the manifest does not say)"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say_share(name: str) -> Callable[[Any], str]:
    return lambda share: f"missing share of {name} {_known(share)}"


def _say_null(column: str) -> Callable[[Any], str]:
    return lambda seen: f"{column} is null or NaN in {seen['wrong']} of {seen['rows']} sampled rows"


def _say_values(subject: str) -> Callable[[Any], str]:
    def say(seen: dict[str, Any]) -> str:
        examples = ", ".join(str(value) for value in seen["examples"])
        return f"{subject} is wrong in {seen['wrong']} of {seen['rows']} sampled rows" + (
            f" ({examples})" if examples else ""
        )

    return say
