"""Non-inferiority: is the candidate not worse than the champion by more than a margin?

The candidate has to show it. Its loss against the champion is estimated on the rows of D; the upper end of
the one-sided confidence interval of that loss must lie within the margin. So a test set that is too small
to tell keeps the champion, and the reason says about how many rows would tell. Every comparison has to pass,
so that having several asks for no correction of the confidence (an intersection-union test).

With fewer than `gates.min_rows` rows, or where the models could not be compared row by row, there is no
interval to trust: `gates.tiny_test_set` says whether the estimate decides then, or the candidate is refused.
"""

import math
from dataclasses import dataclass

from persia_core.config.gates import Gates
from persia_core.validation.checks import at_most
from persia_core.validation.paired import Comparison, Difference
from persia_core.validation.verdict import ModelCheck


@dataclass(frozen=True)
class _Metric:
    key: str
    word: str
    sign: float  # of a loss: -1 where more is better
    margin: float
    difference: Difference


def not_worse(stage: str, when: str, against: str, compared: Comparison, gates: Gates) -> list[ModelCheck]:
    """A check of AUC and one of normalised entropy; their `value` is the loss that the margin has to cover.

    `stage` begins their names; `when` and `against` stand in their reasons.
    """
    metrics = (
        _Metric("auc", "AUC", -1.0, gates.max_auc_drop, compared.auc),
        _Metric(
            "normalised_entropy",
            "normalised entropy",
            1.0,
            gates.max_normalised_entropy_rise,
            compared.normalised_entropy,
        ),
    )
    return [_check(f"{stage}_{each.key}", each, when, against, compared.rows, gates) for each in metrics]


def _check(name: str, metric: _Metric, when: str, against: str, rows: int, gates: Gates) -> ModelCheck:
    ours, theirs, margin = metric.difference.ours, metric.difference.theirs, metric.margin
    if ours is None or theirs is None:
        whose = "the candidate" if ours is None else against
        return at_most(name, None, margin, f"{metric.word} of {whose} is missing or not a number")
    loss = metric.sign * (ours - theirs)
    found = f"{metric.word} {ours:.4f} {when}, {against} {theirs:.4f}: {_change(loss)}"
    allowed = f"{margin:g} is allowed"
    error = metric.difference.margin_of_error(gates.confidence)
    if rows < gates.min_rows or error is None:
        return _by_estimate(name, loss, margin, found, allowed, rows, gates)
    bound, sure = loss + error, f"at {gates.confidence:.0%} confidence"
    if bound <= margin:
        return at_most(
            name, bound, margin, f"{found}; {sure} worse by {max(bound, 0.0):.4f} at most, {allowed}"
        )
    if loss - error > margin:
        return at_most(name, bound, margin, f"{found}, {sure} by at least {loss - error:.4f}; {allowed}")
    if loss > margin:
        return at_most(name, bound, margin, f"{found}; {allowed}")
    enough = _enough(loss, error, margin, rows)
    reason = f"{found}, but {rows} rows cannot rule out {bound:.4f} {sure}; {allowed}{enough}"
    return at_most(name, bound, margin, reason)


def _by_estimate(
    name: str, loss: float, margin: float, found: str, allowed: str, rows: int, gates: Gates
) -> ModelCheck:
    why = (
        f"{rows} rows are too few for a test (gates.min_rows {gates.min_rows})"
        if rows < gates.min_rows
        else "how sure that is, is unknown"
    )
    if gates.tiny_test_set == "refuse":
        return at_most(name, None, margin, f"{found}; {why}, and gates.tiny_test_set is refuse")
    return at_most(name, loss, margin, f"{found}; {allowed}; {why}: the figures alone decide")


def _change(loss: float) -> str:
    if abs(loss) < 0.00005:
        return "no difference"
    return f"{'worse' if loss > 0 else 'better'} by {abs(loss):.4f}"


def _enough(loss: float, error: float, margin: float, rows: int) -> str:
    """About how many rows would show it, if the estimate is right: the error falls with their square root."""
    if loss >= margin:
        return ""
    needed = rows * (error / (margin - loss)) ** 2
    digits = max(int(math.log10(needed)) - 1, 0)
    return f" (about {math.ceil(needed / 10**digits) * 10**digits:,} rows would)"
