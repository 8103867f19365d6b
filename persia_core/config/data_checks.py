"""What a hashed partition must hold to be trained on: by itself, and beside the ones before it."""

from datetime import date
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from persia_core.config.base import GrownSection, Section

Factor = Annotated[float, Field(ge=1)]
Margin = Annotated[float, Field(ge=0)]


class FactorBand(Section):
    """A figure may lie between the least of the trailing partitions divided by a factor and the greatest

    times it. Beyond the first factor it warns, beyond the second it fails; null: it never does.
    """

    warn: Factor
    fail: Factor | None

    @model_validator(mode="after")
    def _ordered(self) -> "FactorBand":
        _check(self.warn, self.fail)
        return self


class MarginBand(Section):
    """A figure may lie between the least and the greatest of the trailing partitions, and a margin beyond."""

    warn: Margin
    fail: Margin | None

    @model_validator(mode="after")
    def _ordered(self) -> "MarginBand":
        _check(self.warn, self.fail)
        return self


def _check(warn: float, fail: float | None) -> None:
    if fail is not None and fail < warn:
        raise ValueError(f"fail {fail} must not be below warn {warn}: what fails is further off")


class HistoryChecks(Section):
    """A partition beside the trailing ones, the newest before it; see docs/formats/data_checks.md."""

    partitions: Annotated[int, Field(ge=0, le=366)] = 7  # 0: compare with none
    min_partitions: Annotated[int, Field(ge=1)] = 3  # with fewer to compare with, nothing fails but warns
    rows: FactorBand = FactorBand(warn=2.0, fail=5.0)
    label_rate: FactorBand = FactorBand(warn=1.25, fail=2.0)  # of the odds, rate / (1 - rate)
    missing: MarginBand = MarginBand(warn=0.05, fail=0.25)  # of each feature's share of missing values
    distinct: FactorBand = FactorBand(warn=2.0, fail=10.0)  # distinct values of each feature
    mean: MarginBand = MarginBand(warn=0.1, fail=0.25)  # of a dense feature, in widths of its range
    extremes: MarginBand = MarginBand(warn=1.0, fail=10.0)  # its least and its greatest value, likewise

    @model_validator(mode="after")
    def _can_fail(self) -> "HistoryChecks":
        if 0 < self.partitions < self.min_partitions:
            raise ValueError(
                f"min_partitions {self.min_partitions} is above partitions {self.partitions}: nothing could "
                "ever fail; lower it"
            )
        return self


class DataChecks(GrownSection):
    """What a hashed partition must hold to be trained on."""

    later_keys: ClassVar[frozenset[str]] = frozenset({"max_rejected_share", "history", "schema_since"})

    min_rows: Annotated[int, Field(ge=1)] = 1
    label_rate: tuple[float, float] = (0.001, 0.999)
    max_missing_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    max_rejected_share: Annotated[float, Field(ge=0, le=1)] = 0.1  # of raw rows; above it hashing fails
    partition_days: Annotated[int, Field(ge=1)] = 1  # that a partition covers, from its ds on
    history: HistoryChecks = HistoryChecks()
    # The first partition of the present schema: declares that the ones before it have another on purpose.
    schema_since: date | None = None
