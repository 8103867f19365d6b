"""The baseline that a model must beat: how often was this very item clicked before?"""

from collections import defaultdict
from collections.abc import Iterable

from persia_core.training.metrics import auc

PRIOR_VIEWS = 10.0

Click = tuple[str, int]  # (item, label 0 or 1)


def item_rate_auc(earlier: Iterable[Click], day: Iterable[Click]) -> float | None:
    """AUC on `day` of the smoothed historical click rate per item; None if one class is missing.

    score(item) = (clicks + 10 g) / (views + 10), counted over `earlier`; g is the click rate of all
    `earlier` rows together (0.5 if there are none), so an unseen item scores g. The usual additive
    (m-estimate) smoothing of a rate.
    """
    views: defaultdict[str, int] = defaultdict(int)
    clicks: defaultdict[str, int] = defaultdict(int)
    for item, label in earlier:
        views[item] += 1
        clicks[item] += label
    total = sum(views.values())
    overall = sum(clicks.values()) / total if total else 0.5
    rows = list(day)
    scores = [(clicks[i] + PRIOR_VIEWS * overall) / (views[i] + PRIOR_VIEWS) for i, _ in rows]
    return auc([label for _, label in rows], scores)
