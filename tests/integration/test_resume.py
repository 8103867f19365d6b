"""Real MPI jobs that lose a rank: a retry goes on from the last cut, and nobody can tell afterwards."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from persia_core.checkpoint.select import latest_checkpoint
from persia_core.config import ModelConfig, parse_config
from persia_core.errors import ConfigError, PersiaError, RankFailed
from persia_core.handoff.publish import publish
from persia_core.handoff.s3_store import S3Store
from persia_core.launch.train import train_partition
from tests.integration.test_oracle import every_kind
from tests.integration.test_training import DAYS, changed, metrics_of, place, publish_checkpoint
from tests.support.hashed import Rows, hashed_table, write_hashed_partition
from tests.support.plain import PlainModel, saved_rows
from tests.support.small_config import small_rows
from tests.support.training import TrainingPlace

__all__ = ["place"]

pytestmark = pytest.mark.mpi

SEED = 11  # of the steps at which ranks die
FIRST_ROWS = 64 * 5 + 7  # 6 steps of an epoch


def mortal(config: ModelConfig, file: Path, **model_args: Any) -> ModelConfig:
    model = {"model": "tests.support.mortal:Mortal", "model_args": {"file": str(file), **model_args}}
    return changed(config, training=model)


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by file and name, read by the plain safetensors package."""
    assert {path.suffix for path in checkpoint.iterdir()} == {".json", ".safetensors"}
    return {
        f"{path.name}/{name}": tensor
        for path in checkpoint.glob("*.safetensors")
        for name, tensor in safetensors.torch.load_file(path).items()
    }


def rows_by_id(tensors: dict[str, torch.Tensor]) -> dict[tuple[str, int], tuple[bytes, ...]]:
    """(table, id) -> the bytes of its weights and optimizer state, whichever server has it."""
    found = {}
    for name, ids in tensors.items():
        if not name.endswith(".ids"):
            continue
        prefix = name.removesuffix("ids")
        columns = [tensors[prefix + kind] for kind in ("weights", "state") if prefix + kind in tensors]
        for index, id_ in enumerate(ids.tolist()):
            row = tuple(column[index].contiguous().view(torch.uint8).numpy().tobytes() for column in columns)
            found[prefix.partition("/")[2], id_] = row
    return found


def reproducible_config() -> ModelConfig:
    document = every_kind("adagrad").model_dump()
    document["tables"][1]["weight_type"] = "bfloat16"  # stochastic rounding is a function of the step
    return changed(
        parse_config(document, "test"),
        training={
            "dense_optimizer": {"name": "Adam", "args": {"lr": 0.01}},
            "dense_schedule": {"name": "LinearLR", "args": {"start_factor": 0.1, "total_iters": 50}},
            "reproducible": True,
            "shuffle": True,
            "epochs": 2,
            "metric_slices": ["hour"],
        },
        checkpoint={"every_steps": 4},
    )


@pytest.fixture(scope="module")
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with the first day and its checkpoint, trained once for all tests that start from it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        place = TrainingPlace(tmp_path_factory.mktemp("first day"), monkeypatch)
        config = reproducible_config()
        write_hashed_partition(config, place.store, DAYS[0], small_rows(FIRST_ROWS, seed=0))
        alive = place.home / "alive"
        alive.touch()
        publish_checkpoint(place, config, DAYS[0], place.train(mortal(config, alive), DAYS[0]))
        yield place.home / "store"


@pytest.fixture
def second_day(place: TrainingPlace, first_day: Path) -> TrainingPlace:
    """A place whose store holds the first day."""
    shutil.copytree(first_day, place.home / "store", dirs_exist_ok=True)
    return place


def test_a_retry_on_other_servers_equals_the_run_that_was_never_interrupted_to_the_bit(
    second_day: TrainingPlace,
) -> None:
    place, config = second_day, changed(reproducible_config(), cluster={"servers": 2, "trainers": 2})
    alive = place.home / "alive"
    alive.touch()
    # 6 steps a day and epoch, so cuts at 4 and 8: before and after the begin of an epoch.
    write_hashed_partition(config, place.store, DAYS[1], small_rows(FIRST_ROWS, seed=1))
    # The one stands still for its cuts, which are whole; the other takes a snapshot of a base and a delta.
    still = {"every_steps": 4, "snapshot": False, "base_every": 1}
    whole = place.train(changed(mortal(config, alive), checkpoint=still), DAYS[1], "whole", cold_start=False)

    rng = np.random.default_rng(SEED)
    batch, trainer = int(rng.integers(9, 12)), int(rng.integers(2))
    fatal = mortal(config, place.home / "died", batch=batch, cut=8, trainer=trainer)
    with pytest.raises(RankFailed, match=rf"trainer {trainer}\b"):
        place.train(fatal, DAYS[1], "retried", cold_start=False)
    cuts = whole.parent / "retried" / "cuts"
    check_contents_of_a_cut(cuts / "8", fatal)
    check_base_and_delta(cuts / "4", cuts / "8")
    lines = (whole.parent / "retried" / "metrics.jsonl").read_text().splitlines()
    elsewhere = changed(fatal, cluster={"servers": 3})
    retried = place.train(elsewhere, DAYS[1], "retried", cold_start=False)

    expected, found = tensors_of(whole / "checkpoint"), tensors_of(retried / "checkpoint")
    assert rows_by_id(expected) == rows_by_id(found)
    of_servers = {name for name in found if name.startswith("embedding-")}
    assert {int(found[name]) for name in of_servers if name.endswith("/step")} == {
        int(expected["embedding-0.safetensors/step"])
    }
    assert expected.keys() - found.keys() == set()
    for name in found.keys() - of_servers:
        assert torch.equal(expected[name], found[name]), name
    states = [json.loads((run / "checkpoint" / "state.json").read_text()) for run in (whole, retried)]
    assert states[0] == states[1]
    one, other = metrics_of(whole), metrics_of(retried)
    assert other["resumed_at"] == [8] and one["resumed_at"] == []
    assert (one["cuts"]["taken"], one["cuts"]["failed"], other["cuts"]["taken"]) == (2, 0, 0)
    for kept in ("before", "after", "slices", "staleness", "visits", "rows_skipped", "loss", "table_rows"):
        assert one[kept] == other[kept], kept
    assert one["before"] is not None and one["visits"]["trained"] == 2 * FIRST_ROWS
    assert lines[:8] == (retried / "metrics.jsonl").read_text().splitlines()[:8]
    assert not (retried / "cuts").exists(), "a finished run needs its cuts no more"


def check_contents_of_a_cut(cut: Path, config: ModelConfig) -> None:
    """All that docs/formats/checkpoint.md promises of the cut at step 8: 2 of the 6 steps of epoch 1."""
    state = json.loads((cut / "state.json").read_text())
    assert state["step"] == 12 + 8
    position = state["position"]
    assert (position["ds"], position["epoch"], position["rows_visited"]) == (DAYS[1], 1, 2 * 64)
    assert (position["steps"], position["rows"], position["complete"]) == (8, FIRST_ROWS, False)
    assert set(position["next"]) == {"file", "row_group", "row"}
    assert state["dense_schedule"]["scheduler"]["last_epoch"] == 20
    run = state["run"]
    assert run["before"]["auc"] > 0
    assert run["account"]["trained"] == FIRST_ROWS + 2 * 64
    assert sum(run["staleness"]["histogram"].values()) == 8 * 2
    tensors = tensors_of(cut)
    assert {f"run.safetensors/random.{trainer}.torch_cpu" for trainer in range(2)} < set(tensors)
    manifest = json.loads((cut / "manifest.json").read_text())
    assert manifest["kind"] == "cut"
    assert manifest["lineage"]["config_digest"] == config.digest()
    assert manifest["details"]["run_step"] == 8


def check_base_and_delta(base: Path, delta: Path) -> None:
    """The one holds every row, the other what has changed since, and says what it follows."""
    manifests = [json.loads((cut / "manifest.json").read_text()) for cut in (base, delta)]
    assert manifests[0]["details"]["follows"] == []
    assert manifests[1]["details"]["follows"] == [{"step": 4, "digest": manifests[0]["digest"]}]
    before, after = (
        {name: tensor for name, tensor in tensors_of(cut).items() if name.startswith("embedding-")}
        for cut in (base, delta)
    )
    assert before.keys() < after.keys()
    assert {name.rpartition(".")[2] for name in after.keys() - before.keys()} == {"removed_ids"}
    rows, changed_rows = rows_by_id(before), rows_by_id(after)
    assert rows.keys() - changed_rows.keys(), "rows that no batch has touched are in the base only"
    assert changed_rows.keys() & rows.keys() and changed_rows.keys() - rows.keys()
    assert sum(rows[key] != changed_rows[key] for key in rows.keys() & changed_rows.keys()) > 50


def test_a_retry_with_other_ranks_goes_on_from_the_older_cut_if_the_newer_is_damaged(
    place: TrainingPlace, caplog: pytest.LogCaptureFixture
) -> None:
    config = changed(
        every_kind("adagrad"),
        training={"mode": "hybrid", "staleness": 3, "shuffle": True, "epochs": 2},
        cluster={"servers": 2, "trainers": 2, "embedding_workers": 1},
        checkpoint={"every_steps": 3, "base_every": 2, "compact": True},
    )
    steps, rows = 2 * 6, small_rows(64 * 5 + 7, seed=5)
    write_hashed_partition(config, place.store, DAYS[0], rows, rows_per_part=100)
    victim = "persia-embedding-server"
    fatal = mortal(config, place.home / "died", batch=11, cut=9, victim=victim)
    with pytest.raises(RankFailed, match="embedding server"):
        place.train(fatal, DAYS[0])
    cuts = place.home / "home" / "work" / config.name / f"ds={DAYS[0]}" / "run" / "cuts"
    assert sorted(path.name for path in cuts.iterdir()) == ["3", "6", "9"], "two, and the base of the first"
    follows = [
        [
            link["step"]
            for link in json.loads((cuts / step / "manifest.json").read_text())["details"]["follows"]
        ]
        for step in ("3", "6", "9")
    ]
    assert follows == [[], [3], []], "the last one was compacted"
    damaged = bytearray((cuts / "9" / "embedding-1.safetensors").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (cuts / "9" / "embedding-1.safetensors").write_bytes(damaged)

    others = changed(fatal, cluster={"servers": 3, "trainers": 1, "embedding_workers": 0})
    with caplog.at_level(logging.WARNING):
        run_dir = place.train(others, DAYS[0])
    assert "cut at step 9 is damaged" in caplog.text and "embedding-1.safetensors" in caplog.text
    check_every_row_counted_once(run_dir, config, rows, epochs=2)
    metrics = metrics_of(run_dir)
    assert metrics["resumed_at"] == [6]
    updates = sum(metrics["staleness"]["histogram"].values())
    assert updates == 6 * 2 + (steps - 6) * 1, "of two trainers up to the cut, of one from there"
    assert metrics["staleness"]["max"] <= 3
    assert [step for step, _ in metrics["loss"]] == list(range(steps))


def check_every_row_counted_once(run_dir: Path, config: ModelConfig, rows: Rows, epochs: int) -> None:
    metrics, count = metrics_of(run_dir), len(rows["label"])
    assert (metrics["rows_in"], metrics["rows_trained"], metrics["rows_skipped"]) == (count, count, {})
    assert metrics["visits"] == {"trained": count * epochs, "skipped": 0}
    assert metrics["steps"] == epochs * -(-count // config.training.global_batch_size)
    for name, ids in PlainModel(config, hashed_table(config, rows)).ids.items():
        assert sorted(saved_rows(run_dir / "checkpoint", name)) == ids


def test_async_goes_on_from_a_cut_that_all_trainers_have_agreed_on_on_another_host(
    place: TrainingPlace, s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.store = s3_store
    config = changed(
        every_kind("adagrad"),
        training={
            "mode": "async",
            "staleness": 2,
            "dense_optimizer": {"name": "Adam", "args": {"lr": 0.01}},
        },
        cluster={"servers": 1, "trainers": 2},
        checkpoint={"every_steps": 3, "upload": True, "keep": 1},
    )
    rows = small_rows(64 * 12, seed=6)
    write_hashed_partition(config, place.store, DAYS[0], rows)
    fatal = mortal(config, place.home / "died", batch=8, cut=6, trainer=1)
    with pytest.raises(RankFailed, match="trainer 1"):
        place.train(fatal, DAYS[0])
    root = f"cuts/{config.name}/ds={DAYS[0]}/run"
    manifests = {info.key for info in s3_store.list("cuts/") if info.key.endswith("/manifest.json")}
    assert manifests == {f"{root}/3/manifest.json", f"{root}/6/manifest.json"}, "a delta, and its base"
    assert latest_checkpoint(s3_store, config.name, DAYS[1]) is None, "a cut is no checkpoint of its day"
    monkeypatch.setenv("PERSIA_HOME", str(place.home / "another host"))
    run_dir = place.train(fatal, DAYS[0])
    check_every_row_counted_once(run_dir, config, rows, epochs=1)
    metrics = metrics_of(run_dir)
    assert metrics["resumed_at"] == [6] and metrics["cuts"]["not_stored"] == 0
    publish(fatal, s3_store, DAYS[0], run_dir)
    assert not list(s3_store.list("cuts/")), "a run that is published needs its cuts no more"
    optimizer = safetensors.torch.load_file(run_dir / "checkpoint" / "optimizer.safetensors")
    assert int(optimizer["0.step"]) == 2 * 12, "each trainer applied its gradients of each step once"


def test_a_changed_schema_keeps_the_rows_that_it_can_with_a_new_network(second_day: TrainingPlace) -> None:
    place, config, second = second_day, reproducible_config(), small_rows(64 * 2, seed=8)
    document = config.model_dump()
    document["features"] = [f for f in document["features"] if f.get("table") != "tag"]
    document["tables"] = [t for t in document["tables"] if t["name"] != "tag"]
    shop = document["tables"][0] | {"name": "shop", "prefix": 77, "dim": 8}
    document["tables"].insert(0, shop)
    document["features"].append({"name": "shop", "column": "item", "kind": "categorical", "table": "shop"})
    changed_config = parse_config(document, "changed")
    write_hashed_partition(changed_config, place.store, DAYS[1], second)
    with pytest.raises(PersiaError, match=r"dense network .* another shape") as caught:
        place.train(changed_config, DAYS[1], cold_start=False)
    assert caught.value.exit_code == ConfigError.exit_code
    assert "--cold-start-dense" in caught.value.remedy
    result = train_partition(changed_config, place.store, DAYS[1], "run", cold_start_dense=True)
    (before,) = (place.home / "store" / "checkpoints" / config.name / f"ds={DAYS[0]}").iterdir()
    after = Path(result.run_dir) / "checkpoint"
    assert result.metrics["schema_change"] == {
        "new_tables": ["shop"],
        "dropped_rows": {"tag": len(saved_rows(before, "tag"))},
    }
    seen = PlainModel(changed_config, hashed_table(changed_config, second)).ids
    assert sorted(saved_rows(after, "shop")) == seen["shop"]
    for table in ("user", "item", "hour"):
        old, new = saved_rows(before, table), saved_rows(after, table)
        assert new.keys() == old.keys() | set(seen[table])
        untouched = old.keys() - set(seen[table])
        assert all(np.array_equal(old[id_], new[id_]) for id_ in untouched)
        assert untouched or table == "hour"
    assert not any("tag." in name for name in tensors_of(after))
    assert json.loads((after / "state.json").read_text())["step"] == 12 + 2 * 2
