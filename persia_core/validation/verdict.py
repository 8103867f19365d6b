"""Verdicts on model versions: what was checked, what was found, and whether it passes. Stored as JSON."""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from persia_core.errors import Corrupt
from persia_core.handoff.object_store import NotFound, ObjectStore


class ModelCheck(BaseModel):
    """One rule: `value` must be there and not beyond a bound that is set; `reason` is a sentence.

    `skipped`: the rule could not be applied and its reason says why; that is no failure.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    passed: bool
    value: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    reason: str
    skipped: bool = False

    @model_validator(mode="before")
    @classmethod
    def _without_the_former_limit(cls, document: Any) -> Any:
        """Verdicts that were stored when a check had one `limit` are still read."""
        if isinstance(document, dict):
            return {key: value for key, value in document.items() if key != "limit"}
        return document


class ModelVerdict(BaseModel):
    """The verdict on one model version, bound to the bytes of its manifest (`manifest_sha256`, hex).

    It passes if and only if every check does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    ds: str
    manifest_sha256: str
    champion: str | None  # the version it was compared with
    passed: bool
    checks: list[ModelCheck]
    warnings: list[str] = []
    summary: str
    metrics: dict[str, Any]  # "before", "after", "champion", "parent": summaries on the rows of `ds`, or None

    @model_validator(mode="after")
    def _consistent(self) -> "ModelVerdict":
        if not self.checks or self.passed != all(check.passed for check in self.checks):
            raise ValueError("passed must mean that there are checks and all of them pass")
        return self

    def reasons(self) -> list[str]:
        """The reasons of the checks that failed."""
        return [check.reason for check in self.checks if not check.passed]

    def to_bytes(self) -> bytes:
        """UTF-8 JSON; NaN and infinities among the metrics become null."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def finite(value: object) -> float | None:
    """`value` as a number, or None if it is none, or one that JSON has no word for."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_model_verdict(store: ObjectStore, key: str) -> ModelVerdict | None:
    """The verdict under `key`, None if there is none. Raises Corrupt naming the key."""
    try:
        data = store.get(key).data
    except NotFound:
        return None
    try:
        return ModelVerdict.model_validate_json(data)
    except ValidationError as error:
        raise Corrupt(
            f"verdict {store.uri(key)}: {error.errors()[0]['msg']}", "run `persia validate model` again"
        ) from error
