"""Real MPI jobs that lose a rank: a retry goes on from the last cut, and nobody can tell afterwards."""

import json
import logging
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
    """(table, id) -> the bytes of its weights, optimizer state and the rest, whichever server has it."""
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


def test_a_retry_equals_the_run_that_was_never_interrupted_to_the_bit(place: TrainingPlace) -> None:
    document = every_kind("adagrad").model_dump()
    document["tables"][1]["weight_type"] = "bfloat16"  # stochastic rounding is a function of the step
    config = changed(
        parse_config(document, "test"),
        training={
            "dense_optimizer": {"name": "Adam", "args": {"lr": 0.01}},
            "dense_schedule": {"name": "LinearLR", "args": {"start_factor": 0.1, "total_iters": 50}},
            "reproducible": True,
            "shuffle": True,
            "epochs": 2,
            "metric_slices": ["hour"],
        },
        cluster={"servers": 2, "trainers": 3},
        checkpoint={"every_steps": 4},
    )
    alive = place.home / "alive"
    alive.touch()
    # 6 steps a day and epoch, so cuts at 4 and 8: before and after the begin of an epoch.
    for number, ds in enumerate(DAYS):
        write_hashed_partition(config, place.store, ds, small_rows(64 * 5 + 7, seed=number))
    publish_checkpoint(place, config, DAYS[0], place.train(mortal(config, alive), DAYS[0]))
    still = {"every_steps": 4, "snapshot": False}  # the one stands still for its cuts, the other does not
    whole = place.train(changed(mortal(config, alive), checkpoint=still), DAYS[1], "whole", cold_start=False)

    rng = np.random.default_rng(SEED)
    batch, trainer = int(rng.integers(9, 12)), int(rng.integers(3))
    fatal = mortal(config, place.home / "died", batch=batch, cut=8, trainer=trainer)
    with pytest.raises(RankFailed, match=rf"trainer {trainer}\b"):
        place.train(fatal, DAYS[1], "retried", cold_start=False)
    cut = whole.parent / "retried" / "cuts" / "8"
    check_contents_of_a_cut(cut, fatal)
    lines = (whole.parent / "retried" / "metrics.jsonl").read_text().splitlines()
    retried = place.train(fatal, DAYS[1], "retried", cold_start=False)

    expected, found = tensors_of(whole / "checkpoint"), tensors_of(retried / "checkpoint")
    assert expected.keys() == found.keys()
    assert rows_by_id(expected) == rows_by_id(found)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    states = [json.loads((run / "checkpoint" / "state.json").read_text()) for run in (whole, retried)]
    assert states[0] == states[1]
    one, other = metrics_of(whole), metrics_of(retried)
    assert other["resumed_at"] == [8] and one["resumed_at"] == []
    assert (one["cuts"]["taken"], one["cuts"]["failed"], other["cuts"]["taken"]) == (2, 0, 0)
    for kept in ("before", "after", "slices", "staleness", "visits", "rows_skipped", "loss", "table_rows"):
        assert one[kept] == other[kept], kept
    assert one["before"] is not None and one["visits"]["trained"] == 2 * (64 * 5 + 7)
    assert lines[:8] == (retried / "metrics.jsonl").read_text().splitlines()[:8]
    assert not (retried / "cuts").exists(), "a finished run needs its cuts no more"


def check_contents_of_a_cut(cut: Path, config: ModelConfig) -> None:
    """All that docs/formats/checkpoint.md promises of the cut at step 8: 2 of the 6 steps of epoch 1."""
    state = json.loads((cut / "state.json").read_text())
    assert state["step"] == 12 + 8
    position = state["position"]
    assert (position["ds"], position["epoch"], position["rows_visited"]) == (DAYS[1], 1, 2 * 64)
    assert (position["steps"], position["rows"], position["complete"]) == (8, 64 * 5 + 7, False)
    assert set(position["next"]) == {"file", "row_group", "row"}
    assert state["dense_schedule"]["scheduler"]["last_epoch"] == 20
    run = state["run"]
    assert run["before"]["auc"] > 0
    assert run["account"]["trained"] == 64 * 5 + 7 + 2 * 64
    assert sum(run["staleness"]["histogram"].values()) == 8 * 3
    tensors = tensors_of(cut)
    assert {f"run.safetensors/random.{trainer}.torch_cpu" for trainer in range(3)} < set(tensors)
    manifest = json.loads((cut / "manifest.json").read_text())
    assert manifest["kind"] == "cut"
    assert manifest["lineage"]["config_digest"] == config.digest()
    assert manifest["details"]["run_step"] == 8


def test_a_retry_with_other_ranks_goes_on_from_the_older_cut_if_the_newer_is_damaged(
    place: TrainingPlace, caplog: pytest.LogCaptureFixture
) -> None:
    config = changed(
        every_kind("adagrad"),
        training={"mode": "hybrid", "staleness": 3, "shuffle": True, "epochs": 2},
        cluster={"servers": 2, "trainers": 2, "embedding_workers": 1},
        checkpoint={"every_steps": 3},
    )
    steps, rows = 2 * 6, small_rows(64 * 5 + 7, seed=5)
    write_hashed_partition(config, place.store, DAYS[0], rows, rows_per_part=100)
    victim = "persia-embedding-server"
    fatal = mortal(config, place.home / "died", batch=11, cut=9, victim=victim)
    with pytest.raises(RankFailed, match="embedding server"):
        place.train(fatal, DAYS[0])
    cuts = place.home / "home" / "work" / config.name / f"ds={DAYS[0]}" / "run" / "cuts"
    assert sorted(path.name for path in cuts.iterdir()) == ["6", "9"], "two are kept"
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
        checkpoint={"every_steps": 5, "upload": True},
    )
    rows = small_rows(64 * 12, seed=6)
    write_hashed_partition(config, place.store, DAYS[0], rows)
    fatal = mortal(config, place.home / "died", batch=8, cut=5, trainer=1)
    with pytest.raises(RankFailed, match="trainer 1"):
        place.train(fatal, DAYS[0])
    keys = [info.key for info in s3_store.list("cuts/")]
    assert f"cuts/{config.name}/ds={DAYS[0]}/run/5/manifest.json" in keys
    assert latest_checkpoint(s3_store, config.name, DAYS[1]) is None, "a cut is no checkpoint of its day"
    monkeypatch.setenv("PERSIA_HOME", str(place.home / "another host"))
    run_dir = place.train(fatal, DAYS[0])
    check_every_row_counted_once(run_dir, config, rows, epochs=1)
    metrics = metrics_of(run_dir)
    assert metrics["resumed_at"] == [5] and metrics["cuts"]["not_stored"] == 0
    publish(fatal, s3_store, DAYS[0], run_dir)
    assert not list(s3_store.list("cuts/")), "a run that is published needs its cuts no more"
    optimizer = safetensors.torch.load_file(run_dir / "checkpoint" / "optimizer.safetensors")
    assert int(optimizer["0.step"]) == 2 * 12, "each trainer applied its gradients of each step once"


def test_a_changed_schema_keeps_the_rows_that_it_can_with_a_new_network(place: TrainingPlace) -> None:
    config = every_kind("adagrad")
    first, second = small_rows(64 * 3, seed=7), small_rows(64 * 2, seed=8)
    write_hashed_partition(config, place.store, DAYS[0], first)
    day = place.train(config, DAYS[0])
    publish_checkpoint(place, config, DAYS[0], day)

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
    before, after = day / "checkpoint", Path(result.run_dir) / "checkpoint"
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
    assert json.loads((after / "state.json").read_text())["step"] == 3 + 2
