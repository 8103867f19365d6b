"""What is known of a training run that was published, when its directory is gone."""

from typing import Any

from persia_core.config import ModelConfig
from persia_core.handoff.layout import checkpoint_prefix
from persia_core.handoff.models import read_version, version_of_checkpoint
from persia_core.handoff.object_store import ObjectStore

_BULKY = ("loss", "servers", "slices")


def published_metrics(store: ObjectStore, config: ModelConfig, ds: str, run: str) -> dict[str, Any] | None:
    """The metrics of the version published from that run; None if there is none of this configuration."""
    version = version_of_checkpoint(store, config.name, checkpoint_prefix(config.name, ds, run))
    if version is None:
        return None
    manifest = read_version(store, config.name, version).manifest
    if manifest.lineage.config_digest != config.digest():
        return None
    return without_bulk(manifest.metrics)


def without_bulk(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics without curves, slices and server counters: what a person reads in one look."""
    return {name: value for name, value in metrics.items() if name not in _BULKY}
