"""The assets of the daily retrain: hashed partition, candidate, champion. Their partitions are days.

Their URIs name a thing, not a place: the same in every deployment, wherever its object store is.
"""

from airflow.sdk import Asset

GROUP = "persia"


def hashed(dataset: str) -> Asset:
    """A hashed partition that passed validation."""
    return Asset(name=f"hashed.{dataset}", uri=f"x-persia://hashed/{dataset}", group=GROUP)


def candidate(model: str) -> Asset:
    """A published version. Its name is in the event's extra, as `version`."""
    return Asset(name=f"candidate.{model}", uri=f"x-persia://candidate/{model}", group=GROUP)


def champion(model: str) -> Asset:
    """The version that serving reads now. Its name is in the event's extra, as `version`.

    An event says that a version of that day is champion. It may come twice for one promotion, when the task
    was tried again.
    """
    return Asset(name=f"champion.{model}", uri=f"x-persia://champion/{model}", group=GROUP)
