"""How a check is made from a figure and its bounds: a figure that is missing never passes."""

from persia_core.validation.verdict import ModelCheck


def at_most(name: str, value: float | None, limit: float, reason: str) -> ModelCheck:
    """Passes if there is a value and it is not above the limit."""
    passed = value is not None and value <= limit
    return ModelCheck(name=name, passed=passed, value=value, at_most=limit, reason=reason)


def at_least(name: str, value: float | None, limit: float, reason: str) -> ModelCheck:
    """Passes if there is a value and it is not below the limit."""
    passed = value is not None and value >= limit
    return ModelCheck(name=name, passed=passed, value=value, at_least=limit, reason=reason)


def holds(name: str, true: bool, reason: str) -> ModelCheck:
    """Passes if it is true: as a figure, 1."""
    return at_least(name, float(true), 1.0, reason)


def skipped(name: str, reason: str) -> ModelCheck:
    """A check that could not be made; that is no failure."""
    return ModelCheck(name=name, passed=True, skipped=True, reason=reason)
