"""From checkpoint files to the serving export and into memory: damaged and hostile input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from persia_core.checkpoint.tables import embedding_files, table_shards
from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, EnvironmentProblem
from persia_core.handoff.export import export_version, read_metrics
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.serving_model import load_model
from persia_core.handoff.serving_schema import ServingSchema, schema_of
from tests.support.runs import Day, FakeModel, bags_of, make_day, make_run, small_config

DS = "2026-11-02"
CONFIG = small_config(export={"graph": False})


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return make_day(CONFIG, LocalStore(tmp_path_factory.mktemp("store")), DS, rows=60)


@pytest.fixture
def run_dir(day: Day, tmp_path: Path) -> Path:
    return make_run(CONFIG, day, tmp_path / "run")


def export(run_dir: Path, out: Path, config: ModelConfig = CONFIG) -> Manifest:
    checkpoint = Manifest.from_bytes((run_dir / "checkpoint" / "manifest.json").read_bytes(), "m")
    out.mkdir()
    return export_version(config, run_dir, checkpoint, out, prefix="checkpoints/x/")


def test_the_same_run_gives_the_same_bytes(run_dir: Path, tmp_path: Path) -> None:
    first, second = export(run_dir, tmp_path / "a"), export(run_dir, tmp_path / "b")
    assert first == second
    for part in first.parts:
        assert (tmp_path / "a" / part.path).read_bytes() == (tmp_path / "b" / part.path).read_bytes()


def test_an_empty_table_and_absent_tensors_are_exported(day: Day, tmp_path: Path) -> None:
    weights = {**day.model.weights, "tag": {}}
    run = make_run(CONFIG, day, tmp_path / "run", model=FakeModel(weights, day.model.network))
    path = run / "checkpoint" / "embedding-0.safetensors"
    save_file({k: v for k, v in load_file(path).items() if not k.startswith("tag.")}, path)
    export(run, tmp_path / "out")
    model = load_model(tmp_path / "out")
    assert model.tables["tag"].weights.shape == (0, 4)
    assert (model.pooled(day.table)["tags"] == 0).all()


def test_more_rows_than_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_dir: Path) -> None:
    monkeypatch.setattr("persia_core.handoff.embedding_file.ROW_GROUP", 7)
    export(run_dir, tmp_path / "small")
    monkeypatch.undo()
    export(run_dir, tmp_path / "large")
    for name in ("user", "item"):
        small, large = (tmp_path / size / "embeddings" / f"{name}.parquet" for size in ("small", "large"))
        assert pq.read_metadata(small).num_row_groups > 3
        assert pq.read_table(small).equals(pq.read_table(large))


def rewrite(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = run / "checkpoint" / "embedding-0.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _wrong_prefix(tensors: dict[str, Any]) -> None:
    tensors["user.ids"] = tensors["user.ids"] ^ np.uint64(1 << 63)


def _twice(tensors: dict[str, Any]) -> None:
    tensors["user.ids"] = np.repeat(tensors["user.ids"][:1], len(tensors["user.ids"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_wrong_prefix, "another prefix than 1"),
        (_twice, "same id"),
        (lambda t: t.pop("user.weights"), r"user\.weights is missing"),
        (lambda t: t.pop("user.ids"), r"user\.ids is missing"),
        (lambda t: t.update({"user.ids": t["user.ids"].astype(np.int64)}), "is I64, expected U64"),
        (lambda t: t.update({"user.weights": t["user.weights"].astype(np.float16)}), "is F16, expected F32"),
        (
            lambda t: t.update({"user.weights": t["user.weights"][:, :3].copy()}),
            r"expected \[n\] and \[n, 4\]",
        ),
        (lambda t: t.update({"user.weights": t["user.weights"][1:].copy()}), r"expected \[n\] and \[n, 4\]"),
    ],
)
def test_a_table_that_is_not_as_declared_is_refused(
    run_dir: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(run_dir, change)
    with pytest.raises(Corrupt, match=message):
        export(run_dir, tmp_path / "out")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        (2 << 30).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(run_dir: Path, tmp_path: Path, content: bytes) -> None:
    (run_dir / "checkpoint" / "embedding-1.safetensors").write_bytes(content)
    with pytest.raises(Corrupt, match="embedding-1"):
        export(run_dir, tmp_path / "out")


def test_tables_are_mapped_not_copied(run_dir: Path, day: Day) -> None:
    shards = table_shards(embedding_files(run_dir / "checkpoint"), "user", 4)
    assert all(isinstance(shard.weights, np.memmap) for shard in shards)
    found = {int(id_): row for shard in shards for id_, row in zip(shard.ids, shard.weights, strict=True)}
    assert found.keys() == day.model.weights["user"].keys()
    for id_, row in day.model.weights["user"].items():
        np.testing.assert_array_equal(found[id_], row)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_weights_of_16_bits_are_exported_as_float32(
    run_dir: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persia_core.handoff.embedding_file.ROW_GROUP", 7)
    tables = [table.model_dump() for table in CONFIG.tables]
    for table in tables:
        table["weight_type"] = kind if table["name"] == "user" else "float32"
    config = small_config(tables=tables, export={"graph": False})
    with pytest.raises(Corrupt, match=r"is F32, expected B?F16"):
        export(run_dir, tmp_path / "refused", config)
    expected: dict[int, Any] = {}
    for path in embedding_files(run_dir / "checkpoint"):
        tensors = load_torch(path)
        narrow = tensors["user.weights"].to(getattr(torch, kind))
        save_torch({**tensors, "user.weights": narrow}, path)
        expected |= dict(zip(tensors["user.ids"].tolist(), narrow.float().numpy(), strict=True))
    export(run_dir, tmp_path / "out", config)
    exported = pq.read_table(tmp_path / "out" / "embeddings" / "user.parquet")
    assert exported["embedding"].type.value_type == pa.float32()
    assert exported["id"].to_pylist() == sorted(expected)
    found = np.array(exported["embedding"].to_pylist(), np.float32)
    np.testing.assert_array_equal(found, np.stack([expected[id_] for id_ in sorted(expected)]))


def test_metrics_that_are_not_numbers_become_none(tmp_path: Path) -> None:
    text = '{"before": {"auc": NaN}, "after": {"auc": Infinity}, "loss": [[0, -Infinity]]}'
    (tmp_path / "metrics.json").write_text(text)
    assert read_metrics(tmp_path) == {"before": {"auc": None}, "after": {"auc": None}, "loss": [[0, None]]}
    loss = [[i, i / 2] for i in range(5000)]
    (tmp_path / "metrics.json").write_text(json.dumps({"loss": loss}))
    thinned = read_metrics(tmp_path)["loss"]
    assert (len(thinned), thinned[0], thinned[-1]) == (200, loss[0], loss[-1])


IMPORT_PATHS = [
    "os.system",
    "os:system('x')",
    "os; import sys:x",
    "../evil:Model",
    "a..b:C",
    ":C",
    "a:",
    "a:b.c",
    "a:C\n",
    "",
]


@pytest.mark.parametrize("path", IMPORT_PATHS)
def test_an_import_path_that_is_none_is_refused(path: str) -> None:
    rows = {table.name: 0 for table in CONFIG.tables}
    document = json.loads(schema_of(CONFIG, rows).to_bytes())
    document["model"]["import_path"] = path
    with pytest.raises(Corrupt, match="import_path"):
        ServingSchema.from_bytes(json.dumps(document).encode(), "schema.json")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("os:system", Corrupt, "no torch.nn.Module"),
        ("torch:load", Corrupt, "no torch.nn.Module"),
        ("torch.nn:Module", Corrupt, "does not fit"),
        ("no_such_package_at_all:Model", EnvironmentProblem, "no_such_package_at_all"),
        ("torch.nn:NoSuchClass", EnvironmentProblem, "NoSuchClass"),
        ("persia_core.models.dnn:DNN", Corrupt, "does not fit"),
    ],
)
def test_only_a_network_that_fits_is_built(
    run_dir: Path, tmp_path: Path, path: str, error: type[Exception], message: str, day: Day
) -> None:
    export(run_dir, tmp_path / "out")
    file = tmp_path / "out" / "schema.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"model": {"import_path": path, "args": {}}}))
    model = load_model(tmp_path / "out")
    with pytest.raises(error, match=message):
        model.predict(day.table)


def without_pooling(document: dict[str, Any]) -> None:
    document["format_version"] = 1
    for feature in document["features"]:
        del feature["pooling"], feature["sequence_length"]


def test_in_format_1_every_feature_has_the_pooling_of_its_table(
    run_dir: Path, tmp_path: Path, day: Day
) -> None:
    tables = [table.model_dump() for table in CONFIG.tables]
    tables[1]["pooling"] = "mean"
    export(run_dir, tmp_path / "out", small_config(tables=tables, export={"graph": False}))
    new = load_model(tmp_path / "out").pooled(day.table)
    path = tmp_path / "out" / "schema.json"
    document = json.loads(path.read_bytes())
    without_pooling(document)
    path.write_text(json.dumps(document))
    old = load_model(tmp_path / "out").pooled(day.table)
    for name, value in new.items():
        np.testing.assert_array_equal(old[name], value)
    assert "mean" in {table["pooling"] for table in document["tables"]}


def test_each_feature_is_pooled_as_the_schema_says(run_dir: Path, tmp_path: Path, day: Day) -> None:
    """Against loops over bags and a dictionary; `history` is cut to its last two ids."""
    features = [feature.model_dump() for feature in CONFIG.features]
    by_name = {feature["name"]: feature for feature in features}
    by_name["history"] |= {"pooling": "sequence", "sequence_length": 2}
    by_name["tags"]["pooling"] = "sqrtn"
    config = small_config(features=features, export={"graph": False})
    export(run_dir, tmp_path / "out")
    rows = {name: len(rows) for name, rows in day.model.weights.items()}
    (tmp_path / "out" / "schema.json").write_bytes(schema_of(config, rows).to_bytes())
    model = load_model(tmp_path / "out")
    pooled, masks = model.pooled(day.table), model.masks(day.table)
    assert masks.keys() == {"history"}
    longest = 0
    for row, bag in enumerate(bags_of(day.table, "history")):
        longest = max(longest, len(bag))
        assert masks["history"][row].tolist() == [place < len(bag) for place in range(2)]
        for place in range(2):
            id_ = bag[-2:][place] if place < len(bag) else None
            expected = day.model.weights["item"].get(id_, np.zeros(4)) if id_ is not None else np.zeros(4)
            np.testing.assert_array_equal(pooled["history"][row, place], expected)
    assert longest > 2
    for row, bag in enumerate(bags_of(day.table, "tags")):
        rows = [day.model.weights["tag"].get(id_, np.zeros(4)) for id_ in bag]
        expected = sum(rows, np.zeros(4)) / max(1, len(bag)) ** 0.5
        np.testing.assert_allclose(pooled["tags"][row], expected, atol=1e-6)
    sliced = day.table.slice(7, 20)
    np.testing.assert_array_equal(model.pooled(sliced)["history"], pooled["history"][7:27])
    np.testing.assert_array_equal(model.masks(sliced)["history"], masks["history"][7:27])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("history", {"pooling": "sequence"}),
        ("history", {"pooling": "sum", "sequence_length": 3}),
        ("user", {"pooling": "sequence", "sequence_length": 3}),
        ("history", {"pooling": "max"}),
    ],
)
def test_a_pooling_that_makes_no_sense_is_refused(name: str, change: dict[str, Any]) -> None:
    document = json.loads(schema_of(CONFIG, {table.name: 0 for table in CONFIG.tables}).to_bytes())
    next(feature for feature in document["features"] if feature["name"] == name).update(change)
    with pytest.raises(Corrupt, match=r"features|sequence"):
        ServingSchema.from_bytes(json.dumps(document).encode(), "schema.json")


def _parquet(path: Path, ids: list[int | None], kind: Any = None, dim: int = 4) -> None:
    rows = pa.array([[0.0] * dim] * len(ids), kind or pa.list_(pa.float32(), dim))
    pq.write_table(pa.table({"id": pa.array(ids, pa.uint64()), "embedding": rows}), path)


USER = 1 << 56


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: _parquet(p, [USER + 2, USER + 1]), "not ascending"),
        (lambda p: _parquet(p, [USER + 1, USER + 1]), "not ascending"),
        (lambda p: _parquet(p, [USER, 2 * USER]), "another prefix"),
        (lambda p: _parquet(p, [USER, None]), "nulls"),
        (lambda p: _parquet(p, [USER]), "has 1 rows"),
        (lambda p: _parquet(p, [USER, USER + 1], pa.list_(pa.float32())), "columns"),
        (lambda p: _parquet(p, [USER, USER + 1], dim=5), "columns"),
        (lambda p: p.write_bytes(b"PAR1 no"), "cannot be read"),
    ],
)
def test_an_embedding_file_that_is_not_as_declared_is_refused(
    day: Day, tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    weights = {
        **day.model.weights,
        "user": {USER + 5: np.zeros(4, np.float32), USER + 9: np.ones(4, np.float32)},
    }
    run = make_run(CONFIG, day, tmp_path / "run", model=FakeModel(weights, day.model.network))
    export(run, tmp_path / "out")
    assert len(load_model(tmp_path / "out").tables["user"].ids) == 2
    write(tmp_path / "out" / "embeddings" / "user.parquet")
    with pytest.raises(Corrupt, match=message):
        load_model(tmp_path / "out")


def test_embeddings_are_loaded_without_torch(run_dir: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    export(run_dir, tmp_path / "out")
    code = (
        "import sys; from pathlib import Path\n"
        "from persia_core.handoff.consume import load_model\n"
        f"assert load_model(Path({str(tmp_path / 'out')!r})).tables['user'].ids.size\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
