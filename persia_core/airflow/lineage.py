"""What a stage read and wrote, for OpenLineage: data sets with schema, version, rows and bytes.

Works without Airflow's provider for OpenLineage: then nobody asks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from persia_core.config import ModelConfig
from persia_core.handoff import layout
from persia_core.handoff.pointer import CHAMPION
from persia_core.monitoring import names


@dataclass(frozen=True)
class LineageDataset:
    """A data set by OpenLineage's naming. `columns`: name -> type; `checks`: name -> whether it held."""

    namespace: str
    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None
    rows: int | None = None
    bytes: int | None = None
    checks: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    inputs: Sequence[LineageDataset] = ()
    outputs: Sequence[LineageDataset] = ()


def lineage_of(stage: str, config: ModelConfig, ds: str | None, result: Mapping[str, Any]) -> Lineage:
    """What the stage read and wrote, by its result. Nothing for a command that moves no data."""
    describe = _STAGES.get(stage)
    return describe(config, ds or str(result.get("ds", "")), result) if describe and result else Lineage()


def _hash(config: ModelConfig, ds: str, result: Mapping[str, Any]) -> Lineage:
    raw = _dataset(config, layout.raw_prefix(config.dataset.name, ds), rows=result["rows_in"])
    return Lineage(
        [raw], [_hashed(config, ds, result["digest"], rows=result["rows_kept"], bytes=result["bytes"])]
    )


def _validate_data(config: ModelConfig, ds: str, verdict: Mapping[str, Any]) -> Lineage:
    checks = {check["name"]: check["status"] != "fail" for check in verdict["checks"]}
    return Lineage(
        [_hashed(config, ds, verdict["hashed_digest"], rows=verdict["rows"], checks=checks)],
        [_dataset(config, layout.data_docs_prefix(config.dataset.name, ds))],
    )


def _train(config: ModelConfig, ds: str, result: Mapping[str, Any]) -> Lineage:
    inputs = [_hashed(config, ds, None, rows=result["metrics"]["rows_in"])]
    if result["parent"] is not None:
        inputs.append(_dataset(config, result["parent"]))
    # Until it is published the checkpoint lies on the host. It is the same one.
    prefix = layout.checkpoint_prefix(config.name, ds, result["run"])
    rows = sum(result["metrics"]["table_rows"].values())
    return Lineage(inputs, [_dataset(config, prefix, columns=_tables(config), rows=rows)])


def _publish(config: ModelConfig, _: str, result: Mapping[str, Any]) -> Lineage:
    version = _version(config, result["version"], version=result["manifest_sha256"], bytes=result["bytes"])
    inputs = [_dataset(config, result["checkpoint"], columns=_tables(config))]
    if result["parent"] is not None:
        inputs.append(_version(config, result["parent"]))
    return Lineage(inputs, [version])


def _validate_model(config: ModelConfig, _: str, verdict: Mapping[str, Any]) -> Lineage:
    checks = {check["name"]: bool(check["passed"]) for check in verdict["checks"]}
    judged = _version(config, verdict["version"], version=verdict["manifest_sha256"], checks=checks)
    inputs = [judged, _hashed(config, verdict["ds"], None)]
    if verdict["champion"] not in (None, verdict["version"]):
        inputs.append(_version(config, verdict["champion"]))
    return Lineage(inputs, [_dataset(config, layout.verdict_key(config.name, verdict["version"]))])


def _promote(config: ModelConfig, _: str, result: Mapping[str, Any]) -> Lineage:
    alias = _dataset(config, layout.alias_key(config.name, CHAMPION), version=result["version"])
    return Lineage([_version(config, result["version"])], [alias])


_STAGES: dict[str, Callable[[ModelConfig, str, Mapping[str, Any]], Lineage]] = {
    names.HASH: _hash,
    names.VALIDATE_DATA: _validate_data,
    names.TRAIN: _train,
    names.PUBLISH: _publish,
    names.VALIDATE_MODEL: _validate_model,
    names.PROMOTE: _promote,
    names.ROLLBACK: _promote,
}


def _dataset(config: ModelConfig, key: str, **facts: Any) -> LineageDataset:
    """A key of the store: `s3://bucket` and the key with the prefix, or `file` and a path."""
    url = urlsplit(config.storage.url)
    path = f"{url.path.rstrip('/')}/{key.rstrip('/')}"
    if url.scheme == "file":
        return LineageDataset("file", path, **facts)
    return LineageDataset(f"{url.scheme}://{url.netloc}", path.lstrip("/"), **facts)


def _hashed(config: ModelConfig, ds: str, digest: str | None, **facts: Any) -> LineageDataset:
    from persia_core.data.schema import hashed_columns

    columns = {name: str(kind) for name, kind in hashed_columns(config).items()}
    prefix = layout.hashed_prefix(config.dataset.name, ds)
    return _dataset(config, prefix, columns=columns, version=digest, **facts)


def _version(config: ModelConfig, name: str, **facts: Any) -> LineageDataset:
    return _dataset(config, layout.version_prefix(config.name, name), columns=_tables(config), **facts)


def _tables(config: ModelConfig) -> dict[str, str]:
    return {table.name: f"{table.weight_type}[{table.dim}]" for table in config.tables}
