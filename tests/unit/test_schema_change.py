"""Tables come and go by rule: new ones begin empty, rows of dropped ones are counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import nn

from persia_core import _native
from persia_core.checkpoint.dense_state import check_dense_fits
from persia_core.checkpoint.schema_change import SchemaChange, fit_to_schema
from persia_core.checkpoint.write import Contents, write_checkpoint
from persia_core.config import ModelConfig, parse_config
from persia_core.embedding.tables import feature_specs, table_specs
from persia_core.errors import ConfigError
from persia_core.handoff.manifest import Manifest
from persia_core.training.dense import build_model, build_optimizer
from tests.support.small_config import small_config

ROWS = 30


def base(**table: Any) -> ModelConfig:
    """Tables user, item, hour and tag on three servers; item keeps track of use, has a state and 16 bits."""
    document = small_config(cluster={"servers": 3}).model_dump()
    item = document["tables"][1]
    item["optimizer"] = {"kind": "adagrad", "learning_rate": 0.1}
    item |= {"weight_type": "bfloat16", "capacity_bytes": 1 << 20} | table
    return parse_config(document, "base")


def worker_of(config: ModelConfig) -> _native.EmbeddingWorker:
    worker = _native.EmbeddingWorker(
        transport="in-process",
        servers=config.cluster.servers,
        tables=table_specs(config),
        features=feature_specs(config),
        trainer=0,
        trainers=1,
        staleness=1,
        combine=False,
        seed=1,
        timeout_s=20.0,
    )
    worker.configure()
    return worker


def ids_of(config: ModelConfig) -> dict[str, np.ndarray]:
    """ROWS ids for every feature, with the prefixes of their tables."""
    bits = 64 - config.dataset.prefix_bits
    return {
        f.name: np.array([(config.table(f.table).prefix << bits) + 7 * n for n in range(ROWS)], np.uint64)
        for f in config.id_features
    }


def write(config: ModelConfig, directory: Path) -> Manifest:
    worker = worker_of(config)
    offsets = [np.arange(ROWS + 1, dtype=np.int64)] * len(config.id_features)
    lookup = worker.lookup(0, list(ids_of(config).values()), offsets, True)
    worker.update(lookup, [pooled + 1 for pooled in lookup.pooled], 1.0)
    model = build_model(config)
    contents = Contents(model, build_optimizer(config, model), {"step": 1})
    lineage = {"dataset": "clicks", "ds": "2026-01-01", "parent": None, "hashed_digest": None}
    return write_checkpoint(config, directory, "checkpoint", lineage, worker, contents, {})


def rows_of(directory: Path, table: str) -> dict[int, tuple[bytes, ...]]:
    import safetensors.torch

    found = {}
    for path in directory.glob("embedding-*.safetensors"):
        tensors = safetensors.torch.load_file(path)
        columns = [tensors.get(f"{table}.{kind}") for kind in ("weights", "state", "last_used")]
        for n, id_ in enumerate(tensors[f"{table}.ids"].tolist()):
            found[id_] = tuple(str(c[n].tolist()).encode() for c in columns if c is not None)
    return found


def changed(config: ModelConfig, drop: str, new: str) -> ModelConfig:
    """Without the table `drop` and its features, and with `new`, before all others."""
    document = config.model_dump()
    document["features"] = [f for f in document["features"] if f.get("table") != drop]
    document["tables"] = [t for t in document["tables"] if t["name"] != drop]
    optimizer = {"kind": "adam", "learning_rate": 0.1}
    document["tables"].insert(0, {"name": new, "prefix": 77, "dim": 3, "optimizer": optimizer})
    document["features"].append({"name": new, "kind": "categorical", "table": new})
    return parse_config(document, "changed")


def test_a_new_table_begins_empty_and_rows_of_a_dropped_one_are_counted(tmp_path: Path) -> None:
    config = base()
    manifest = write(config, tmp_path)
    kept = {name: rows_of(tmp_path, name) for name in ("user", "item", "hour")}
    after = changed(config, drop="tag", new="shop")
    fitted, change = fit_to_schema(after, tmp_path, manifest)
    assert change == SchemaChange(["shop"], {"tag": ROWS})
    for name, rows in kept.items():
        assert rows and rows_of(tmp_path, name) == rows, "what stays is the same to the bit"
    assert rows_of(tmp_path, "shop") == {}
    for part in fitted.parts:
        assert (tmp_path / part.path).stat().st_size == part.size
        if part.path.startswith("embedding-"):
            assert not [name for name in load_names(tmp_path / part.path) if name.startswith("tag.")]
    # The servers, which check every byte, are the judges.
    restored = worker_of(after)
    paths = [str(tmp_path / part.path) for part in fitted.parts if part.path.startswith("embedding-")]
    restored.load(paths)
    counts = {
        name: sum(server["tables"][name]["rows"] for server in restored.stats())  # type: ignore[index]
        for name in ("user", "item", "hour", "shop")
    }
    assert counts == {name: len(rows) for name, rows in kept.items()} | {"shop": 0}
    again, nothing = fit_to_schema(after, tmp_path, fitted)
    assert nothing is None and again == fitted


def load_names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return list(file.keys())


def test_nothing_is_touched_where_the_schema_is_the_same(tmp_path: Path) -> None:
    manifest = write(base(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert fit_to_schema(base(), tmp_path, manifest) == (manifest, None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"dim": 8}, "table item has dim 8 in the configuration and 4"),
        ({"optimizer": {"kind": "adam", "learning_rate": 0.1}}, "optimizer adam in .* and adagrad"),
        ({"weight_type": "float16"}, "weight type F16 in .* and BF16"),
        ({"prefix": 9}, "prefix 9 in .* and 2"),
    ],
)
def test_a_changed_table_is_an_error_that_names_it_and_both_values(
    tmp_path: Path, table: dict[str, Any], what: str
) -> None:
    manifest = write(base(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=what):
        fit_to_schema(base(**table), tmp_path, manifest)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_momentum_that_is_new_has_no_state_to_go_on_from(tmp_path: Path) -> None:
    plain, heavy = ({"kind": "sgd", "learning_rate": 0.1, "momentum": momentum} for momentum in (0.0, 0.9))
    manifest = write(base(optimizer=plain), tmp_path)
    with pytest.raises(ConfigError, match=r"item has floats of optimizer state 4 .* and 0"):
        fit_to_schema(base(optimizer=heavy), tmp_path, manifest)


def test_a_network_of_another_shape_is_an_error_that_names_tensor_and_way_out(tmp_path: Path) -> None:
    write(base(), tmp_path)
    check_dense_fits(tmp_path, build_model(base()))
    with pytest.raises(ConfigError, match=r"weight is \[.*\] in the file, \[.*\] in the model") as caught:
        check_dense_fits(tmp_path, build_model(changed_network()))
    assert "--cold-start-dense" in caught.value.remedy
    with pytest.raises(ConfigError, match="not there in the model"):
        check_dense_fits(tmp_path, nn.Identity())
    assert load_file(tmp_path / "dense.safetensors")


def changed_network() -> ModelConfig:
    document = base().model_dump()
    document["training"]["model_args"] = {"bottom_mlp": [5]}
    return parse_config(document, "network")
