"""A model version of a given size in a local store: random rows, among them those of the requests."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmarks.criteo_rows import CATEGORIES, COLUMNS, INTEGERS, write_rows
from persia_core import __version__
from persia_core.checkpoint.layout import DENSE
from persia_core.config import ModelConfig, parse_config
from persia_core.data.rows import hash_rows
from persia_core.handoff.embedding_file import ROW_GROUP, EmbeddingWriter
from persia_core.handoff.embedding_rows import encode
from persia_core.handoff.graph import GRAPH, graph_inputs, write_graph
from persia_core.handoff.layout import MANIFEST, version_name, version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Lineage, Manifest, digest_of, part_of
from persia_core.handoff.onnx_file import ONNX, write_onnx
from persia_core.handoff.pointer import CHAMPION, Pointer, swap_pointer
from persia_core.handoff.serving_schema import SCHEMA_FILE, OnnxFile, schema_of
from persia_core.training.dense import DenseTraining

DS = "2026-01-01"
TABLE = "values"
PREFIX = 1


def config_of(dim: int, store: Path) -> ModelConfig:
    """DLRM on rows in the shape of Criteo's: 26 categories that share a table, 13 numbers."""
    document: dict[str, Any] = {
        "dataset": {"name": "bench", "format": "tsv", "columns": COLUMNS, "salt": "bench"},
        "features": [
            *(
                {"name": f"I{n}", "kind": "dense", "transform": "log1p", "missing": 0.0}
                for n in range(1, INTEGERS + 1)
            ),
            *({"name": f"C{n}", "kind": "categorical", "table": TABLE} for n in range(1, CATEGORIES + 1)),
        ],
        "tables": [
            {
                "name": TABLE,
                "prefix": PREFIX,
                "dim": dim,
                "optimizer": {"kind": "adagrad", "learning_rate": 0.01},
            }
        ],
        "training": {
            "model": "persia_core.models.dlrm:DLRM",
            "model_args": {"bottom_mlp": [512, 256], "top_mlp": [512, 256]},
        },
        "storage": {"url": f"file://{store}"},
        "name": "bench",
    }
    return parse_config(document, "bench")


def request_rows(count: int, scratch: Path) -> list[dict[str, str]]:
    """Raw rows as clients send them, all values as text; empty ones are left out."""
    path = scratch / "rows.tsv"
    write_rows(path, count, seed=7)
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    pairs = [zip(COLUMNS[1:], line[1:], strict=True) for line in lines]
    return [{name: value for name, value in pair if value} for pair in pairs]


def write_version(config: ModelConfig, rows: int, requests: list[dict[str, str]], scratch: Path) -> int:
    """Make a version of `rows` rows the champion; returns the bytes of its table."""
    directory = scratch / "version"
    (directory / "embeddings").mkdir(parents=True)
    torch.manual_seed(0)
    save_file(DenseTraining.build(config, torch.device("cpu")).model.state_dict(), directory / DENSE)
    program = write_graph(config, directory / DENSE, directory / GRAPH)
    schema = schema_of(config, {TABLE: rows})
    inputs = graph_inputs([(feature.name, None) for feature in config.id_features])
    onnx = OnnxFile(inputs=inputs, opset=write_onnx(program, inputs, directory / ONNX))
    schema = schema.model_copy(update={"onnx": onnx})
    path = directory / schema.tables[0].file
    rng = np.random.default_rng(0)
    dim = config.table(TABLE).dim
    with EmbeddingWriter(path, "float32", dim) as writer:
        for chunk in np.array_split(_ids(config, rows, requests), max(1, rows // ROW_GROUP)):
            weights = 0.01 * rng.standard_normal((len(chunk), dim), dtype=np.float32)
            writer.write(encode("float32", chunk, weights))
    (directory / SCHEMA_FILE).write_bytes(schema.to_bytes())
    parts = [part_of(directory, each) for each in sorted(directory.rglob("*")) if each.is_file()]
    lineage = Lineage(
        dataset=config.dataset.name,
        ds=DS,
        parent=None,
        hashed_digest="0" * 64,
        config_digest=config.digest(),
        code_version=__version__,
    )
    manifest = Manifest(
        kind="model_version",
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint=config.schema_fingerprint(),
        lineage=lineage,
    )
    store = LocalStore(Path(config.storage.url.removeprefix("file://")))
    version = version_name(DS, manifest.digest)
    prefix = version_prefix(config.name, version)
    for part in parts:
        store.upload(directory / part.path, prefix + part.path)
    stored = manifest.to_bytes()
    store.put_if_absent(prefix + MANIFEST, stored)
    pointer = Pointer(
        version=version, ds=DS, manifest_sha256=hashlib.sha256(stored).hexdigest(), reason="benchmark"
    )
    swap_pointer(store, config.name, CHAMPION, pointer, None)
    return path.stat().st_size


def _ids(config: ModelConfig, rows: int, requests: list[dict[str, str]]) -> NDArray[np.uint64]:
    """Ascending; those of the requests first, then others at random until there are `rows`."""
    bits = config.dataset.prefix_bits
    table = hash_rows(config, requests, labelled=False).table
    asked = [
        table[f"C{n}"].drop_null().to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
        for n in range(1, CATEGORIES + 1)
    ]
    ids = np.unique(np.concatenate(asked))[:rows]
    rng = np.random.default_rng(1)
    while len(ids) < rows:
        drawn = rng.integers(0, 1 << (64 - bits), rows - len(ids), dtype=np.uint64)
        ids = np.union1d(ids, drawn | np.uint64(PREFIX << (64 - bits)))
    return ids
