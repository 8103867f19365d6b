"""What a validation says: passed or not, and every check with a reason that a person understands."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """One check. `reason` is a sentence with what was found and what was expected."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    observed: Any
    expected: str
    reason: str


class DataVerdict(BaseModel):
    """The verdict on one hashed partition; stored as verdict.json beside its Data Docs."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    dataset: str
    ds: str
    hashed_digest: str
    rows: int  # in the partition
    sampled_rows: int  # that the checks of values looked at
    checks: list[Check]
    data_docs: str  # key of the index page

    @property
    def reasons(self) -> list[str]:
        """The reasons of the checks that failed."""
        return [check.reason for check in self.checks if not check.passed]
