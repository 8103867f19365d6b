"""Publishing over HTTP: what is stored, that it can be repeated, and what a crash leaves behind."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, DataInvalid, StorageConflict
from persia_core.handoff.consume import pick_up
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.models import list_versions, show_version, version_names
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CANDIDATE, read_pointer
from persia_core.handoff.publish import publish
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.serving_model import load_model
from persia_core.handoff.transfer import download_and_verify, read_manifest
from tests.support.runs import (
    Day,
    FakeModel,
    make_day,
    make_run,
    oracle_pooled,
    oracle_predict,
    small_config,
)
from tests.unit.test_onnx import SortsByAnUnknownOperator

DS = "2026-11-02"


@pytest.fixture
def config() -> ModelConfig:
    return small_config()


@pytest.fixture
def day(config: ModelConfig, s3_store: S3Store) -> Day:
    return make_day(config, s3_store, DS)


@pytest.fixture
def run_dir(config: ModelConfig, day: Day, tmp_path: Path) -> Path:
    return make_run(config, day, tmp_path / "run-1")


def keys_of(store: ObjectStore, prefix: str) -> set[str]:
    return {info.key.removeprefix(prefix) for info in store.list(prefix)}


def test_a_version_holds_what_its_format_says(
    s3_store: S3Store, run_dir: Path, day: Day, tmp_path: Path
) -> None:
    result = publish(small_config(export={"onnx": True}), s3_store, DS, run_dir)
    prefix = version_prefix("small", result.version)
    assert keys_of(s3_store, prefix) == {
        *(f"embeddings/{name}.parquet" for name in ("user", "item", "tag", "hour")),
        *("dense.safetensors", "graph.pt2", "schema.json", "parity.parquet", "MODEL_CARD.md", "report.html"),
        *("model.onnx", "manifest.json"),
    }
    manifest = read_manifest(s3_store, prefix, "model_version").manifest
    assert result.version == f"{DS}-{manifest.digest[:12]}"
    assert (manifest.details["checkpoint"], manifest.details["run"]) == (result.checkpoint, "run-1")
    assert manifest.details["parity"]["rows"] == 128
    assert manifest.details["parity"]["max_difference"] <= 1e-6
    onnx = manifest.details["onnx"]
    assert (onnx["file"], onnx["reason"]) == ("model.onnx", None)
    assert onnx["max_difference"] <= 1e-5
    assert manifest.lineage.hashed_digest == day.manifest.digest
    download_and_verify(s3_store, prefix, tmp_path / "version", "model_version")
    for name, rows in day.model.weights.items():
        table = pq.read_table(tmp_path / "version" / "embeddings" / f"{name}.parquet")
        assert str(table.schema.field("id").type) == "uint64"
        kind = table.schema.field("embedding").type
        assert (str(kind.value_type), kind.list_size) == ("float", 4)
        assert table["id"].to_pylist() == sorted(rows)
        stored = np.array(table["embedding"].to_pylist(), np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(stored, np.array([rows[id_] for id_ in sorted(rows)]).reshape(-1, 4))
    dense = load_file(tmp_path / "version" / "dense.safetensors")
    expected = day.model.network.state_dict()
    assert dense.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(dense[name], tensor.numpy())
    checkpoint = download_and_verify(s3_store, result.checkpoint, tmp_path / "checkpoint", "checkpoint")
    for part in checkpoint.parts:
        original = run_dir / "checkpoint" / part.path
        assert (tmp_path / "checkpoint" / part.path).read_bytes() == original.read_bytes()
    rows = pq.read_table(tmp_path / "version" / "parity.parquet")
    scored = load_model(tmp_path / "version").under("onnx").predict(rows)
    np.testing.assert_allclose(scored, rows["prediction"].to_numpy(), rtol=0, atol=1e-5)


def test_a_network_without_a_form_in_onnx_is_published_with_a_note(
    day: Day, s3_store: S3Store, tmp_path: Path
) -> None:
    network = SortsByAnUnknownOperator(1, {})
    training = {"model": f"{SortsByAnUnknownOperator.__module__}:SortsByAnUnknownOperator"}
    config = small_config(training=training, export={"onnx": True})
    model = FakeModel(day.model.weights, network)  # type: ignore[arg-type] - any network will do
    result = publish(config, s3_store, DS, make_run(config, day, tmp_path / "run-2", model=model))
    prefix = version_prefix("small", result.version)
    assert {"graph.pt2", "manifest.json"} <= keys_of(s3_store, prefix)
    assert "model.onnx" not in keys_of(s3_store, prefix)
    onnx = read_manifest(s3_store, prefix, "model_version").manifest.details["onnx"]
    assert onnx["file"] is None
    assert "bessel" in onnx["reason"]
    for page in ("report.html", "MODEL_CARD.md"):
        assert "bessel" in s3_store.get(prefix + page).data.decode()
    assert pick_up(s3_store, "small", tmp_path / "m", CANDIDATE).model.schema.onnx is None


@pytest.mark.parametrize("servers", [1, 3])
def test_the_version_does_not_depend_on_the_number_of_servers(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, day: Day, tmp_path: Path, servers: int
) -> None:
    first = publish(config, s3_store, DS, run_dir)
    other = publish(config, s3_store, DS, make_run(config, day, tmp_path / "run-2", servers=servers))
    for name in ("user", "item", "tag", "hour"):
        path = f"embeddings/{name}.parquet"
        parts = [
            next(
                part
                for part in read_manifest(s3_store, version_prefix("small", v)).manifest.parts
                if part.path == path
            )
            for v in (first.version, other.version)
        ]
        assert parts[0] == parts[1]


def test_a_picked_up_model_predicts_what_an_oracle_predicts(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, day: Day, tmp_path: Path
) -> None:
    publish(config, s3_store, DS, run_dir)
    model = pick_up(s3_store, "small", tmp_path / "models", alias=CANDIDATE).model
    pooled = model.pooled(day.table)
    expected = oracle_pooled(config, day.model, day.table)
    assert pooled.keys() == expected.keys()
    for name, value in expected.items():
        assert pooled[name].dtype == np.float32
        np.testing.assert_allclose(pooled[name], value, rtol=1e-6, atol=1e-6)
    assert any((value == 0).all(axis=1).any() for value in expected.values())  # absent ids were among them
    predicted = model.predict(day.table)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, oracle_predict(config, day.model, day.table), atol=1e-6)
    sliced = day.table.slice(77, 101)
    np.testing.assert_allclose(model.predict(sliced), predicted[77:178], atol=1e-6)
    assert model.predict(day.table.slice(0, 0)).shape == (0,)
    with pytest.raises(DataInvalid, match="history"):
        model.predict(day.table.drop_columns(["history"]))
    with pytest.raises(DataInvalid, match="user"):
        model.predict(day.table.set_column(2, "user", day.table["price"]))


def test_publishing_twice_gives_one_version(config: ModelConfig, s3_store: S3Store, run_dir: Path) -> None:
    first = publish(config, s3_store, DS, run_dir)
    before = {info: s3_store.get(info.key).etag for info in s3_store.list("")}
    assert publish(config, s3_store, DS, run_dir) == first
    assert {info: s3_store.get(info.key).etag for info in s3_store.list("")} == before
    assert list(version_names(s3_store, "small")) == [first.version]
    assert sorted(path.name for path in run_dir.iterdir()) == ["checkpoint", "metrics.json", "parity.parquet"]


def test_another_run_under_the_same_name_is_a_conflict(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, tmp_path: Path
) -> None:
    result = publish(config, s3_store, DS, run_dir)
    before = {info: s3_store.get(info.key).etag for info in s3_store.list("")}
    other = make_run(
        config, make_day(config, LocalStore(tmp_path / "l"), DS, seed=5), tmp_path / "b" / "run-1"
    )
    with pytest.raises(StorageConflict, match="run-1") as caught:
        publish(config, s3_store, DS, other)
    assert "run name" in caught.value.remedy
    assert {info: s3_store.get(info.key).etag for info in s3_store.list("")} == before
    assert list(version_names(s3_store, "small")) == [result.version]


def test_what_an_earlier_attempt_left_is_mended(
    config: ModelConfig, s3_store: S3Store, run_dir: Path
) -> None:
    part = "checkpoints/small/ds=2026-11-02/run-1/dense.safetensors"
    size = (run_dir / "checkpoint" / "dense.safetensors").stat().st_size
    s3_store.put(part, b"x" * size)  # the right size, other bytes
    publish(config, s3_store, DS, run_dir)
    assert s3_store.get(part).data == (run_dir / "checkpoint" / "dense.safetensors").read_bytes()


def test_a_flipped_byte_in_any_part_is_detected_before_use(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, tmp_path: Path
) -> None:
    result = publish(config, s3_store, DS, run_dir)
    prefix = version_prefix("small", result.version)
    manifest = read_manifest(s3_store, prefix).manifest
    for number, part in enumerate(manifest.parts):
        whole = s3_store.get(prefix + part.path).data
        for name, damaged in {
            "flipped": whole[: part.size // 2]
            + bytes([whole[part.size // 2] ^ 1])
            + whole[part.size // 2 + 1 :],
            "cut": whole[:-1],
            "longer": whole + b"\0",
            "gone": None,
        }.items():
            if damaged is None:
                s3_store.delete(prefix + part.path)
            else:
                s3_store.put(prefix + part.path, damaged)
            target = tmp_path / f"{number}-{name}"
            with pytest.raises(Corrupt, match=re.escape(s3_store.uri(prefix + part.path))):
                pick_up(s3_store, "small", target, CANDIDATE)
            assert not (target / result.version / part.path).exists()
        s3_store.put(prefix + part.path, whole)
    assert pick_up(s3_store, "small", tmp_path / "good", CANDIDATE).version == result.version


def test_a_flipped_byte_in_the_manifest_is_detected(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, tmp_path: Path
) -> None:
    result = publish(config, s3_store, DS, run_dir)
    key = version_prefix("small", result.version) + "manifest.json"
    whole = s3_store.get(key).data
    for position in range(0, len(whole), len(whole) // 25):
        s3_store.put(key, whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(Corrupt):
            pick_up(s3_store, "small", tmp_path / "models", CANDIDATE)
    s3_store.put(key, whole)
    assert pick_up(s3_store, "small", tmp_path / "models", CANDIDATE).version == result.version


def test_picking_up_again_fetches_only_what_is_not_whole(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, tmp_path: Path
) -> None:
    result = publish(config, s3_store, DS, run_dir)
    pick_up(s3_store, "small", tmp_path, CANDIDATE)
    directory = tmp_path / result.version
    kept = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    (directory / "schema.json").write_bytes(b"{}")
    pick_up(s3_store, "small", tmp_path, CANDIDATE)
    again = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    assert {path for path in kept if kept[path] != again[path]} == {directory / "schema.json"}


def test_a_link_in_the_cache_is_refused(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, tmp_path: Path
) -> None:
    result = publish(config, s3_store, DS, run_dir)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "models" / result.version).mkdir(parents=True)
    (tmp_path / "models" / result.version / "embeddings").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Corrupt, match="link"):
        pick_up(s3_store, "small", tmp_path / "models", CANDIDATE)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "checkpoint" / "manifest.json").unlink(), "did not finish"),
        (lambda run: (run / "metrics.json").unlink(), "metrics.json"),
        (lambda run: (run / "metrics.json").write_text("{"), "metrics.json"),
        (lambda run: (run / "parity.parquet").unlink(), "parity.parquet"),
        (lambda run: (run / "checkpoint" / "dense.safetensors").write_bytes(b""), "dense.safetensors"),
        (lambda run: (run / "checkpoint" / "embedding-1.safetensors").unlink(), "embedding-1"),
    ],
)
def test_an_incomplete_run_is_not_published(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(run_dir)
    with pytest.raises(Corrupt, match=message):
        publish(config, s3_store, DS, run_dir)
    assert list(version_names(s3_store, "small")) == []
    assert read_pointer(s3_store, "small", CANDIDATE) is None


def test_a_run_of_another_day_or_schema_is_refused(
    config: ModelConfig, s3_store: S3Store, run_dir: Path
) -> None:
    with pytest.raises(DataInvalid, match="2026-11-02"):
        publish(config, s3_store, "2026-11-03", run_dir)
    other = small_config(dataset={**config.dataset.model_dump(), "salt": "other"})
    with pytest.raises(DataInvalid, match="features"):
        publish(other, s3_store, DS, run_dir)
    assert not list(s3_store.list("checkpoints/"))


def test_lineage_and_listing(config: ModelConfig, s3_store: S3Store, run_dir: Path, tmp_path: Path) -> None:
    first = publish(config, s3_store, DS, run_dir)
    next_day = make_day(config, s3_store, "2026-11-03", seed=1)
    run = make_run(config, next_day, tmp_path / "run-2", parent=first.checkpoint, before=next_day.model)
    second = publish(config, s3_store, "2026-11-03", run)
    assert (first.parent, second.parent) == (None, first.version)
    # an older day published late does not take the alias back
    assert publish(config, s3_store, DS, run_dir).candidate == second.version
    listed = list_versions(s3_store, "small")
    assert [(v.version, v.parent, v.passed, v.aliases) for v in listed] == [
        (second.version, first.version, None, ["candidate"]),
        (first.version, None, None, []),
    ]
    assert listed[1].auc is None
    assert listed[0].auc is not None
    shown = show_version(s3_store, "small", second.version)
    assert (shown["lineage"]["parent"], shown["verdict"]) == (first.version, None)
    with pytest.raises(Corrupt, match="no complete version"):
        show_version(s3_store, "small", "2026-11-03-000000000000")


def test_a_published_run_is_known_when_its_files_are_gone(
    config: ModelConfig, s3_store: S3Store, run_dir: Path
) -> None:
    first = publish(config, s3_store, DS, run_dir)
    shutil.rmtree(run_dir)
    assert publish(config, s3_store, DS, run_dir) == first
    run_dir.mkdir()
    (run_dir / "lock").touch()  # by a training that found nothing to do
    assert publish(config, s3_store, DS, run_dir) == first
