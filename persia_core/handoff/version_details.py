"""What the manifest of a model version says beside its parts: all that its card and its report show.

Everything is bounded: by the configuration, or by a limit that stands here.
"""

from typing import Any

from persia_core.config import ModelConfig
from persia_core.config.features import DenseFeature
from persia_core.handoff.layout import hashed_prefix
from persia_core.handoff.manifest import Lineage, Manifest
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.transfer import read_manifest

HISTORY_DAYS = 60
_REASONS = 50  # of rejected rows, the most frequent ones
_MEASURED = ("rows", "auc", "log_loss", "normalised_entropy", "calibration")


def describe_model(config: ModelConfig) -> dict[str, Any]:
    """The name, the network and how it was trained."""
    training = config.training
    return {
        "name": config.name,
        "network": training.model,
        "mode": training.mode,
        "staleness": training.staleness,
        "precision": training.precision,
        "trainers": config.cluster.trainers,
        "servers": config.cluster.servers,
    }


def describe_features(config: ModelConfig) -> list[dict[str, Any]]:
    """Name, kind, and of an id feature table and pooling, None of a dense one."""
    return [
        {
            "name": feature.name,
            "kind": feature.kind,
            "table": None if isinstance(feature, DenseFeature) else feature.table,
            "pooling": None if isinstance(feature, DenseFeature) else config.pooling_of(feature),
            "sequence_length": None
            if isinstance(feature, DenseFeature)
            else config.sequence_length_of(feature),
        }
        for feature in config.features
    ]


def history(
    parent: Manifest | None, parent_version: str | None, ds: str, metrics: dict[str, Any]
) -> list[Any]:
    """Metrics of each day before training on it, along the lineage up to this version, oldest first.

    The newest HISTORY_DAYS days. This version's own name is not known yet: None stands for it.
    """
    days: list[dict[str, Any]] = []
    if parent is not None:
        found = parent.details.get("history")
        days = list(found) if found else [_day(parent.lineage.ds, parent.metrics)]
        days[-1] = {**days[-1], "version": parent_version}
    return [*days, _day(ds, metrics)][-HISTORY_DAYS:]


def _day(ds: str, metrics: dict[str, Any]) -> dict[str, Any]:
    before = metrics.get("before") or {}
    return {"ds": ds, "version": None, **{name: before.get(name) for name in _MEASURED}}


def data_quality(store: ObjectStore, lineage: Lineage) -> dict[str, Any] | None:
    """Figures of the hashed partition that was trained on; None if it was replaced or is gone."""
    try:
        manifest = read_manifest(store, hashed_prefix(lineage.dataset, lineage.ds), "hashed").manifest
    except NotFound:
        return None
    if manifest.digest != lineage.hashed_digest:
        return None
    details = manifest.details
    rejected = sorted((details.get("rejected") or {}).items(), key=lambda item: (-item[1], item[0]))
    features = details.get("features") or {}
    return {
        "rows_in": details.get("rows_in"),
        "rows_kept": details.get("rows_kept"),
        "label_rate": details.get("label_rate"),
        "rejected": dict(rejected[:_REASONS]),
        "features": {
            name: {
                key: found.get(key) for key in ("missing", "distinct", "min", "max", "mean") if key in found
            }
            for name, found in features.items()
        },
    }
