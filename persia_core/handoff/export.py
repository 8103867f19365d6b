"""The serving export of a checkpoint: what a model version holds. See docs/formats/model_version.md."""

import json
import logging
import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from persia_core.checkpoint.layout import CHECKPOINT, DENSE, METRICS, PARITY
from persia_core.checkpoint.tables import embedding_files, table_shards
from persia_core.config import ModelConfig
from persia_core.config.features import EmbeddingTable
from persia_core.errors import Corrupt
from persia_core.handoff.delta import DeltaWriter
from persia_core.handoff.embedding_file import EmbeddingFile, EmbeddingWriter
from persia_core.handoff.embedding_rows import encode
from persia_core.handoff.graph import GRAPH, write_graph
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Manifest, digest_of, part_of
from persia_core.handoff.merge import merged
from persia_core.handoff.onnx_export import export_onnx
from persia_core.handoff.parity import prediction_difference
from persia_core.handoff.report import write_pages
from persia_core.handoff.serving_model import open_model
from persia_core.handoff.serving_schema import (
    SCHEMA_FILE,
    changed_file,
    embedding_file,
    removed_file,
    schema_of,
)
from persia_core.handoff.version_details import describe_features, describe_model, history

logger = logging.getLogger(__name__)

_LOSS_POINTS = 200


@dataclass(frozen=True)
class Parent:
    """The version whose checkpoint a run started from.

    `directory` has its tables, if a delta is wanted and can be made.
    """

    version: str
    manifest: Manifest
    directory: Path | None = None


@dataclass
class _Written:
    """What became of the tables: `tables` and `delta` for the manifest, rows per part."""

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    delta: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)


def export_version(
    config: ModelConfig,
    run_dir: Path,
    checkpoint: Manifest,
    out: Path,
    *,
    prefix: str,
    parent: Parent | None = None,
    data: dict[str, Any] | None = None,
) -> Manifest:
    """Write the serving export of `run_dir` to the empty directory `out`; returns its manifest.

    `checkpoint` is the manifest of the run's checkpoint, `prefix` where that is stored, `parent`
    the version whose checkpoint the run started from, `data` what is known of the partition. The same
    run directory gives the same bytes, hence the same digest. Raises Corrupt naming the file of the run
    that is missing or wrong, DataInvalid if the network cannot be exported as a graph.
    """
    source = run_dir / CHECKPOINT
    metrics = read_metrics(run_dir)
    written = _Written()
    files = embedding_files(source)
    for table in config.tables:
        _export_table(config, table, files, out, parent, written)
        logger.info("exported table %s: %d rows", table.name, written.tables[table.name]["rows"])
    for name, origin in ((DENSE, source), (PARITY, run_dir)):
        if not (origin / name).is_file():
            raise Corrupt(f"{origin / name} is missing", "train the partition again")
        shutil.copyfile(origin / name, out / name)
    program = write_graph(config, out / DENSE, out / GRAPH) if config.export.graph else None
    schema = schema_of(config, {name: table["rows"] for name, table in written.tables.items()})
    (out / SCHEMA_FILE).write_bytes(schema.to_bytes())
    schema, onnx = export_onnx(config, program, out, schema)
    (out / SCHEMA_FILE).write_bytes(schema.to_bytes())
    written.parts[PARITY] = pq.read_metadata(out / PARITY).num_rows
    version = parent.version if parent else None
    lineage = checkpoint.lineage.model_copy(update={"parent": version})
    details = {
        "checkpoint": prefix,
        "run": run_dir.name,
        "model": describe_model(config),
        "features": describe_features(config),
        "tables": written.tables,
        "delta": {"parent": version, "tables": written.delta} if written.delta else None,
        "parity": _parity(out),
        "onnx": onnx,
        "history": history(parent.manifest if parent else None, version, lineage.ds, metrics),
        "data": data,
    }
    write_pages(out, lineage, metrics, details)
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    parts = [part_of(out, path, written.parts.get(path.relative_to(out).as_posix())) for path in paths]
    return Manifest(
        kind="model_version",
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint=config.schema_fingerprint(),
        lineage=lineage,
        metrics=metrics,
        details=details,
    )


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """metrics.json of a run, the loss curve thinned to 200 points; NaN and infinities become None."""
    path = run_dir / METRICS
    try:
        metrics = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except (OSError, ValueError) as error:
        raise Corrupt(f"{path} cannot be read: {error}", "train the partition again") from error
    if not isinstance(metrics, dict):
        raise Corrupt(f"{path} holds no mapping", "train the partition again")
    loss = metrics.get("loss") or []
    if len(loss) > _LOSS_POINTS:
        kept = np.linspace(0, len(loss) - 1, _LOSS_POINTS).round().astype(int)
        metrics["loss"] = [loss[i] for i in kept]
    return metrics


def can_be_parent(config: ModelConfig, parent: Manifest) -> bool:
    """Whether a delta can be made against a version: same tables, stored the same way, with digests."""
    tables = parent.details.get("tables") or {}
    return tables.keys() == {table.name for table in config.tables} and all(
        (tables[table.name]["dim"], tables[table.name]["embeddings"]) == (table.dim, config.export.embeddings)
        for table in config.tables
    )


def _export_table(
    config: ModelConfig,
    table: EmbeddingTable,
    files: list[Path],
    out: Path,
    parent: Parent | None,
    written: _Written,
) -> None:
    """All servers' rows of one table in one file, ascending by id; and what changed since the parent."""
    kind, name, dim = config.export.embeddings, table.name, table.dim
    (out / embedding_file(name)).parent.mkdir(parents=True, exist_ok=True)
    shift = np.uint64(64 - config.dataset.prefix_bits)
    delta: DeltaWriter | None = None
    with ExitStack() as stack:
        full = stack.enter_context(EmbeddingWriter(out / embedding_file(name), kind, dim))
        if parent is not None and parent.directory is not None:
            described = parent.manifest.details["tables"][name]
            old = EmbeddingFile(parent.directory / embedding_file(name), kind, dim, described["rows"])
            (out / changed_file(name)).parent.mkdir(parents=True, exist_ok=True)
            delta = stack.enter_context(
                DeltaWriter(old, out / changed_file(name), out / removed_file(name), kind, dim)
            )
        for ids, weights in merged(name, table_shards(files, name, dim, table.weight_type)):
            if (ids >> shift != table.prefix).any():
                raise Corrupt(
                    f"table {name} holds ids of another prefix than {table.prefix}",
                    "the checkpoint was damaged or written by something else; train the partition again",
                )
            rows = encode(kind, ids, weights)
            full.write(rows)
            if delta is not None:
                delta.add(rows)
    written.parts[embedding_file(name)] = full.rows
    written.tables[name] = {
        "rows": full.rows,
        "dim": dim,
        "pooling": table.pooling,
        "embeddings": kind,
        "digest": full.digest,
    }
    if delta is not None and parent is not None:
        written.delta[name] = {
            **asdict(delta.written),
            "parent_digest": parent.manifest.details["tables"][name]["digest"],
        }
        written.parts[changed_file(name)] = delta.written.changed
        written.parts[removed_file(name)] = delta.written.removed


def _parity(directory: Path) -> dict[str, Any]:
    """How far the export, read back from its files, is from the trainer.

    Two digits of it: the last ones depend on the processor, and the pages are the same on all.
    """
    rows, difference = prediction_difference(open_model(directory), directory / PARITY)
    return {"rows": rows, "max_difference": None if difference is None else float(f"{difference:.1e}")}
