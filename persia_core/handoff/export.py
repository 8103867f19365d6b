"""The serving export of a checkpoint: what a model version holds. See docs/formats/model_version.md."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from persia_core.checkpoint.layout import CHECKPOINT, DENSE, METRICS, PARITY
from persia_core.checkpoint.tables import TableShard, embedding_files, table_shards
from persia_core.config import ModelConfig
from persia_core.config.features import EmbeddingTable
from persia_core.errors import Corrupt
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Manifest, digest_of, part_of
from persia_core.handoff.report import Facts, write_model_card, write_report
from persia_core.handoff.serving_schema import SCHEMA_FILE, embedding_file, schema_of

logger = logging.getLogger(__name__)

ROW_GROUP = 65_536
_LOSS_POINTS = 200


def export_version(
    config: ModelConfig, run_dir: Path, checkpoint: Manifest, out: Path, *, prefix: str, parent: str | None
) -> Manifest:
    """Write the serving export of `run_dir` to the empty directory `out`; returns its manifest.

    `checkpoint` is the manifest of the run's checkpoint, `prefix` where that is stored, `parent`
    the version whose checkpoint the run started from. The same run directory gives the same bytes,
    hence the same digest. Raises Corrupt naming the file of the run that is missing or wrong.
    """
    source = run_dir / CHECKPOINT
    details = {"checkpoint": prefix, "run": run_dir.name}
    metrics = read_metrics(run_dir)
    (out / "embeddings").mkdir(parents=True)
    rows: dict[str, int] = {}
    files = embedding_files(source)
    for table in config.tables:
        rows[table.name] = _export_table(config, table, files, out / embedding_file(table.name))
        logger.info("exported table %s: %d rows", table.name, rows[table.name])
    for name, origin in ((DENSE, source), (PARITY, run_dir)):
        if not (origin / name).is_file():
            raise Corrupt(f"{origin / name} is missing", "train the partition again")
        shutil.copyfile(origin / name, out / name)
    (out / SCHEMA_FILE).write_bytes(schema_of(config, rows).to_bytes())
    facts = Facts(config, checkpoint.lineage, metrics, rows, details)
    write_model_card(out / "MODEL_CARD.md", facts)
    write_report(out / "report.html", facts)
    counts = {embedding_file(name): count for name, count in rows.items()}
    counts[PARITY] = pq.read_metadata(out / PARITY).num_rows
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    parts = [part_of(out, path, counts.get(path.relative_to(out).as_posix())) for path in paths]
    return Manifest(
        kind="model_version",
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint=config.schema_fingerprint(),
        lineage=checkpoint.lineage.model_copy(update={"parent": parent}),
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


def _export_table(config: ModelConfig, table: EmbeddingTable, files: list[Path], out: Path) -> int:
    """All servers' rows of one table in one Parquet file, ascending by id; returns their number."""
    shards = table_shards(files, table.name, table.dim, table.weight_type)
    ids = np.concatenate([shard.ids for shard in shards]) if shards else np.empty(0, np.uint64)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    remedy = "the checkpoint was damaged or written by something else; train the partition again"
    if (ids[1:] == ids[:-1]).any():
        raise Corrupt(f"table {table.name} has the same id on two servers", remedy)
    if (ids >> np.uint64(64 - config.dataset.prefix_bits) != table.prefix).any():
        raise Corrupt(f"table {table.name} holds ids of another prefix than {table.prefix}", remedy)
    schema = pa.schema(
        [
            pa.field("id", pa.uint64(), nullable=False),
            pa.field("embedding", pa.list_(pa.field("item", pa.float32()), table.dim), nullable=False),
        ]
    )
    # Weights are close to random bits: compressing them costs time and gains nothing.
    with pq.ParquetWriter(out, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, len(ids), ROW_GROUP):
            chunk = slice(start, start + ROW_GROUP)
            weights = _gather(shards, order[chunk], table.dim)
            embedding = pa.FixedSizeListArray.from_arrays(pa.array(weights.ravel()), table.dim)
            batch = pa.table([pa.array(ids[chunk]), embedding.cast(schema.field(1).type)], schema=schema)
            writer.write_table(batch, row_group_size=ROW_GROUP)
    return len(ids)


def _gather(shards: list[TableShard], positions: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    """Rows at `positions` of the shards one after the other; float32 [len(positions), dim]."""
    weights = np.empty((len(positions), dim), np.float32)
    for shard, first in _starts(shards):
        inside = (positions >= first) & (positions < first + len(shard.ids))
        weights[inside] = shard.take(positions[inside] - first)
    return weights


def _starts(shards: list[TableShard]) -> Iterator[tuple[TableShard, int]]:
    first = 0
    for shard in shards:
        yield shard, first
        first += len(shard.ids)
