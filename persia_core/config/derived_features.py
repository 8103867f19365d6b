"""Features whose ids are made of something else than one raw value: ranges of a number, pairs of values."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from persia_core.config.base import Name, Section

MissingId = Literal["own_id", "zero", "reject"]
MinCount = Annotated[int, Field(ge=1)]
VocabularySample = Annotated[int, Field(ge=0, le=1000)]


class BucketisedFeature(Section):
    """A number as the id of its range: range k holds the values with exactly k boundaries at or below them.

    `missing` is that of a categorical feature. A value that is no finite number rejects the row.
    """

    kind: Literal["bucketised"]
    name: Name
    column: str | None = None
    table: Name
    boundaries: Annotated[list[float], Field(min_length=1, max_length=256)]
    missing: MissingId = "own_id"
    missing_values: tuple[str, ...] = ()

    @field_validator("boundaries")
    @classmethod
    def _ascending(cls, boundaries: list[float]) -> list[float]:
        if any(low >= high for low, high in pairwise(boundaries)):
            raise ValueError("boundaries must ascend")
        return boundaries


class CrossFeature(Section):
    """One id for the pair of values of two other features of one id each.

    `own_id`: a member that is missing is a value like any other. `zero`, `reject`: a pair of which a
    member is missing has no row, or rejects the row.
    """

    kind: Literal["cross"]
    name: Name
    of: tuple[Name, Name]  # names of features of kind categorical, bucketised or timestamp
    table: Name
    missing: MissingId = "own_id"
    min_count: MinCount = 1  # both as of a categorical feature
    vocabulary_sample: VocabularySample = 0
