"""What a validation says: pass, warn or fail, and every check with a reason that a person understands."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["pass", "warn", "fail"]
_ORDER: tuple[Status, ...] = ("pass", "warn", "fail")


def worst(found: Iterable[Status]) -> Status:
    """The worst of them; pass if there is none."""
    return max(found, key=_ORDER.index, default="pass")


class Check(BaseModel):
    """One check. `reason` is a sentence with what was found and what was expected."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    observed: Any
    expected: str
    reason: str


class DataVerdict(BaseModel):
    """The verdict on one hashed partition; stored as verdict.json beside its Data Docs.

    It is the worst of its checks: a partition that fails is not trained on, one that warns is.
    """

    model_config = ConfigDict(frozen=True)

    verdict: Status
    dataset: str
    ds: str
    hashed_digest: str
    rows: int  # in the partition
    sampled_rows: int  # that the checks of values looked at
    history: str  # what it was compared with, in words
    compared_with: list[str]  # these partitions
    checks: list[Check]
    data_docs: str  # key of the index page
    data_docs_uri: str  # the same with the storage URL

    @property
    def reasons(self) -> list[str]:
        """The reasons of the checks that failed."""
        return self.reasons_of("fail")

    def reasons_of(self, status: Status) -> list[str]:
        """The reasons of the checks with that status."""
        return [check.reason for check in self.checks if check.status == status]
