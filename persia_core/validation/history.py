"""What the manifests of earlier partitions say: all that a partition is compared with. No rows are read."""

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST, hashed_prefix, hashed_root
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.transfer import read_manifest

log = logging.getLogger(__name__)

_DAY = re.compile(r"ds=(\d{4}-\d{2}-\d{2})/" + re.escape(MANIFEST))
_RANGE = ("min", "max", "mean")


@dataclass(frozen=True)
class Past:
    """Figures of one earlier partition; those that its manifest lacks are left out.

    `missing` and `distinct`: feature -> share, number. `dense`: feature -> (min, max, mean).
    """

    ds: str
    digest: str
    schema_fingerprint: str
    rows: int
    label_rate: float | None
    missing: dict[str, float]
    distinct: dict[str, int]
    dense: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class History:
    """The partitions before one, oldest first: at most as many as are compared.

    `partitions` have the schema of the configuration, `others` another one; `unreadable` are days whose
    manifest is damaged or another one's. `absent`: how many partitions are not there between the newest of
    them and this one.
    """

    partitions: list[Past] = field(default_factory=list)
    others: list[Past] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    absent: int = 0

    @property
    def newest(self) -> Past | None:
        """The last partition before this one that can be read, of whatever schema."""
        return max([*self.partitions, *self.others], key=lambda past: past.ds, default=None)

    @property
    def days(self) -> list[str]:
        """The partitions that are compared with."""
        return [past.ds for past in self.partitions]


def read_history(config: ModelConfig, store: ObjectStore, ds: str) -> History:
    """The `data_checks.history.partitions` newest partitions before `ds`.

    A gap is none: they are the newest that there are, however old. Later partitions are never looked at, so
    a day that is hashed again is compared with what came before it. Raises StorageUnavailable.
    """
    wanted = config.data_checks.history.partitions
    if not wanted:
        return History()
    days = sorted(day for day in _days(store, config.dataset.name) if day < ds)[-wanted:]
    history = History(absent=_absent(config, days[-1], ds) if days else 0)
    for day in days:
        try:
            manifest = read_manifest(store, hashed_prefix(config.dataset.name, day), "hashed").manifest
        except NotFound:  # removed since it was listed
            continue
        except Corrupt as error:
            log.warning("left out of the comparison: %s", error.what)
            history.unreadable.append(day)
            continue
        if (manifest.lineage.dataset, manifest.lineage.ds) != (config.dataset.name, day):
            log.warning("left out of the comparison: the manifest of ds=%s is that of another partition", day)
            history.unreadable.append(day)
            continue
        past = past_of(manifest)
        same = past.schema_fingerprint == config.schema_fingerprint()
        (history.partitions if same else history.others).append(past)
    return history


def past_of(manifest: Manifest) -> Past:
    """The figures of a hashed partition, as its manifest has them."""
    details = manifest.details
    rows = _count(details.get("rows_kept")) or 0
    listed = details.get("features")
    features: dict[str, dict[str, Any]] = {
        name: found
        for name, found in (listed.items() if isinstance(listed, dict) else ())
        if isinstance(found, dict)
    }
    dense = {name: tuple(_number(found.get(key)) for key in _RANGE) for name, found in features.items()}
    return Past(
        ds=manifest.lineage.ds,
        digest=manifest.digest,
        schema_fingerprint=manifest.schema_fingerprint,
        rows=rows,
        label_rate=_number(details.get("label_rate")),
        missing={
            name: count / rows
            for name, found in features.items()
            if rows and (count := _count(found.get("missing"))) is not None
        },
        distinct={
            name: count
            for name, found in features.items()
            if (count := _count(found.get("distinct"))) is not None
        },
        dense={
            name: (low, high, mean)
            for name, (low, high, mean) in dense.items()
            if low is not None and high is not None and mean is not None
        },
    )


def _days(store: ObjectStore, dataset: str) -> Iterator[str]:
    root = hashed_root(dataset)
    for info in store.list(root):
        if found := _DAY.fullmatch(info.key.removeprefix(root)):
            yield found[1]


def _absent(config: ModelConfig, newest: str, ds: str) -> int:
    days = (date.fromisoformat(ds) - date.fromisoformat(newest)).days
    return max(0, days // config.data_checks.partition_days - 1)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
