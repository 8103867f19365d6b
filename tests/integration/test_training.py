"""Real MPI jobs: several servers and trainers, warm starts, skipped batches, tiny partitions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from persia_core.config import ModelConfig, parse_config
from persia_core.errors import Diverged, NoParent, PartitionMissing
from persia_core.handoff.layout import checkpoint_prefix
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.transfer import upload_parts
from persia_core.training.metrics import auc
from tests.integration.test_oracle import every_kind
from tests.support.hashed import Rows, hashed_table, write_hashed_partition
from tests.support.plain import PlainModel, largest_relative_difference, saved_rows
from tests.support.small_config import small_rows
from tests.support.training import TrainingPlace

pytestmark = pytest.mark.mpi

DAYS = ("2026-01-01", "2026-01-02")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingPlace:
    return TrainingPlace(tmp_path, monkeypatch)


def changed(config: ModelConfig, **sections: dict[str, Any]) -> ModelConfig:
    document = config.model_dump()
    for name, changes in sections.items():
        document[name] |= changes
    return parse_config(document, "changed")


def metrics_of(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "metrics.json").read_text())
    return found


def publish_checkpoint(place: TrainingPlace, config: ModelConfig, ds: str, run_dir: Path) -> None:
    directory = run_dir / "checkpoint"
    manifest = Manifest.from_bytes((directory / "manifest.json").read_bytes(), str(directory))
    upload_parts(place.store, checkpoint_prefix(config.name, ds, run_dir.name), directory, manifest)


def train_plain(plain: PlainModel, rows: int, batch: int) -> None:
    for start in range(0, rows, batch):
        plain.step(range(start, min(start + batch, rows)))


def check_rows(checkpoint: Path, config: ModelConfig, plain: PlainModel) -> None:
    for table in config.tables:
        found, expected = saved_rows(checkpoint, table.name), plain.rows_of(table.name)
        trained = [id_ for id_ in expected if id_ in found]
        assert set(found) <= set(expected)
        stacked = np.stack([found[id_] for id_ in trained])
        assert largest_relative_difference(stacked, np.stack([expected[id_] for id_ in trained])) <= 1e-5
    dense = load_file(checkpoint / "dense.safetensors")
    for name, tensor in plain.dense.state_dict().items():
        assert largest_relative_difference(dense[name], tensor.numpy()) <= 1e-5, name


@pytest.mark.parametrize(("mode", "trainers", "workers"), [("hybrid", 3, 0), ("sync", 3, 2)])
def test_what_is_not_stale_with_several_trainers_equals_one_with_the_whole_batch(
    place: TrainingPlace, mode: str, trainers: int, workers: int
) -> None:
    cluster = {"servers": 2, "server_threads": 2, "trainers": trainers, "embedding_workers": workers}
    training = {"mode": mode, "staleness": 1}
    config = changed(every_kind("adagrad"), training=training, cluster=cluster)
    rows = small_rows(64 * 20 + 1, seed=1)  # the last step has one row: all but one share are empty
    write_hashed_partition(config, place.store, DAYS[0], rows)
    run_dir = place.train(config, DAYS[0])
    plain = PlainModel(config, hashed_table(config, rows))
    train_plain(plain, 64 * 20 + 1, 64)
    check_rows(run_dir / "checkpoint", config, plain)


@pytest.mark.parametrize("workers", [0, 1])
def test_hybrid_accounts_for_every_row_and_keeps_its_staleness_bound(
    place: TrainingPlace, workers: int
) -> None:
    config = changed(
        every_kind("adagrad"),
        training={"mode": "hybrid", "staleness": 3, "epochs": 2, "shuffle": True},
        cluster={"servers": 2, "trainers": 2, "embedding_workers": workers},
    )
    rows = small_rows(1000, seed=2)
    write_hashed_partition(config, place.store, DAYS[0], rows)
    run_dir = place.train(config, DAYS[0])
    metrics = metrics_of(run_dir)
    assert (metrics["rows_in"], metrics["rows_trained"], metrics["rows_skipped"]) == (1000, 1000, {})
    assert metrics["visits"] == {"trained": 2000, "skipped": 0}
    assert metrics["before"] is None
    steps = 2 * 16
    histogram = {int(k): v for k, v in metrics["staleness"]["histogram"].items()}
    assert sum(histogram.values()) == steps * 2, "every server sees every batch of both trainers"
    assert min(histogram) >= 1 and max(histogram) == metrics["staleness"]["max"] <= 3

    table = hashed_table(config, rows)
    plain = PlainModel(config, table)
    for name, ids in plain.ids.items():
        assert metrics["table_rows"][name] == len(ids)
        found = saved_rows(run_dir / "checkpoint", name)
        assert sorted(found) == ids
        with torch.no_grad():
            plain.embeddings[name].weight.copy_(torch.tensor(np.stack([found[id_] for id_ in ids])))
    dense = load_file(run_dir / "checkpoint" / "dense.safetensors")
    plain.dense.load_state_dict({key: torch.tensor(value) for key, value in dense.items()})
    plain.dense.eval()
    with torch.no_grad():
        expected = torch.sigmoid(plain.logits(range(1000))).numpy()
    parity = pq.read_table(run_dir / "parity.parquet")
    assert parity.drop_columns(["prediction"]).equals(table)
    np.testing.assert_allclose(parity["prediction"].to_numpy(), expected, atol=1e-6)
    assert metrics["after"]["auc"] == pytest.approx(auc(table["label"].to_numpy(), expected), abs=1e-4)


def test_a_warm_start_continues_as_if_never_stopped_on_other_numbers_of_servers(place: TrainingPlace) -> None:
    adam = {
        "dense_optimizer": {"name": "Adam", "args": {"lr": 0.01}},
        "dense_schedule": {"name": "LinearLR", "args": {"start_factor": 0.1, "total_iters": 15}},
    }
    config = changed(every_kind("adagrad"), training=adam)
    parts: list[Rows] = [small_rows(640, seed=3), small_rows(640, seed=4)]
    for ds, rows in zip(DAYS, parts, strict=True):
        write_hashed_partition(config, place.store, ds, rows)
    publish_checkpoint(place, config, DAYS[0], place.train(config, DAYS[0]))
    wider = changed(config, cluster={"servers": 3, "server_threads": 2, "embedding_workers": 1})
    run_dir = place.train(wider, DAYS[1], cold_start=False)

    both = hashed_table(config, parts[0]), hashed_table(config, parts[1])
    import pyarrow as pa

    plain = PlainModel(config, pa.concat_tables(both))
    warmup = torch.optim.lr_scheduler.LinearLR(plain.dense_optimizer, 0.1, total_iters=15)
    plain.dense_optimizer.register_step_post_hook(lambda *_: warmup.step())
    train_plain(plain, 640, 64)
    plain.dense.eval()
    seen = {id_ for bags in plain.bags.values() for bag in bags[:640] for id_ in bag}
    assert seen, "the first day has ids"
    known = PlainModel(config, both[1])
    for name, ids in known.ids.items():  # ids that the first day did not have are absent: zeros
        rows_of = plain.rows_of(name)
        weights = [rows_of[id_] if id_ in seen else np.zeros_like(rows_of[id_]) for id_ in ids]
        with torch.no_grad():
            known.embeddings[name].weight.copy_(torch.tensor(np.stack(weights)))
    known.dense.load_state_dict(plain.dense.state_dict())
    known.dense.eval()
    with torch.no_grad():
        before = torch.sigmoid(known.logits(range(640))).numpy()
    metrics = metrics_of(run_dir)
    assert metrics["before"]["auc"] == pytest.approx(auc(both[1]["label"].to_numpy(), before), abs=1e-4)

    plain.dense.train()
    for start in range(640, 1280, 64):
        plain.step(range(start, start + 64))
    check_rows(run_dir / "checkpoint", config, plain)
    manifest = Manifest.from_bytes((run_dir / "checkpoint" / "manifest.json").read_bytes(), "checkpoint")
    assert manifest.lineage.parent == checkpoint_prefix(config.name, DAYS[0], "run")
    assert manifest.details["step"] == 20


def marked(share: float) -> tuple[ModelConfig, Rows]:
    """A model that fails on batch 2, whose first row has a marked price; ordered by time."""
    model = {
        "model": "tests.support.models:NanOnMarkedBatch",
        "model_args": {"marker": 200.0},
        "max_skipped_share": share,
    }
    config = changed(every_kind("sgd", "sum"), training=model, cluster={"servers": 1, "trainers": 2})
    rows = small_rows(64 * 5, seed=6)
    rows["t"] = [str(second) for second in range(64 * 5)]
    rows["price"] = ["1e308" if row == 130 else "3" for row in range(64 * 5)]
    return config, rows


def test_a_step_that_is_not_finite_on_one_trainer_is_skipped_by_all_and_counted(place: TrainingPlace) -> None:
    config, rows = marked(share=0.5)
    write_hashed_partition(config, place.store, DAYS[0], rows)
    run_dir = place.train(config, DAYS[0])
    metrics = metrics_of(run_dir)
    assert metrics["rows_skipped"] == {"non_finite_gradient": 64}
    assert metrics["rows_trained"] == 64 * 4
    plain = PlainModel(config, hashed_table(config, rows))
    for step in (0, 1, 3, 4):
        plain.step(range(step * 64, (step + 1) * 64))
    check_rows(run_dir / "checkpoint", config, plain)


def test_embedding_workers_of_their_own_train_the_same_to_the_bit(place: TrainingPlace) -> None:
    config, rows = marked(share=0.5)  # one of the batches is discarded
    write_hashed_partition(config, place.store, DAYS[0], rows)
    found: list[dict[str, bytes]] = []
    for workers in (0, 1):
        cluster = {"servers": 2, "trainers": 1, "embedding_workers": workers}
        run_dir = place.train(changed(config, cluster=cluster), DAYS[0], run=f"run-{workers}")
        parts = [*run_dir.glob("checkpoint/*.safetensors"), run_dir / "parity.parquet"]
        found.append({path.name: path.read_bytes() for path in parts})
        assert metrics_of(run_dir)["rows_skipped"] == {"non_finite_gradient": 64}
    assert len(found[0]) == 6, "two servers, network, optimizer, random states, predictions"
    assert found[0] == found[1]


def test_too_many_skipped_rows_end_the_job_and_leave_no_checkpoint(place: TrainingPlace) -> None:
    config, rows = marked(share=0.1)
    config = changed(config, cluster={"embedding_workers": 1})
    write_hashed_partition(config, place.store, DAYS[0], rows)
    with pytest.raises(Exception, match="diverged") as caught:
        place.train(config, DAYS[0])
    assert getattr(caught.value, "exit_code", None) == Diverged.exit_code
    assert not list(place.home.rglob("checkpoint/manifest.json"))


def test_a_model_that_ignores_embeddings_leaves_rows_as_they_were_initialised(place: TrainingPlace) -> None:
    blind = {"model": "tests.support.models:BlindToEmbeddings", "model_args": {}}
    config = changed(every_kind("sgd"), training=blind)
    rows = small_rows(130, seed=7)
    write_hashed_partition(config, place.store, DAYS[0], rows)
    run_dir = place.train(config, DAYS[0])
    plain = PlainModel(config, hashed_table(config, rows))
    for table in config.tables:
        found, initial = saved_rows(run_dir / "checkpoint", table.name), plain.rows_of(table.name)
        assert all(np.array_equal(found[id_], initial[id_]) for id_ in initial)


def test_a_partition_smaller_than_the_number_of_trainers_ends_cleanly(place: TrainingPlace) -> None:
    cluster = {"servers": 2, "trainers": 3}
    config = changed(every_kind("adagrad"), training={"mode": "hybrid"}, cluster=cluster)
    write_hashed_partition(config, place.store, DAYS[0], small_rows(1, seed=8))
    metrics = metrics_of(place.train(config, DAYS[0]))
    assert (metrics["rows_in"], metrics["rows_trained"]) == (1, 1)


def test_a_finished_run_is_not_trained_twice(place: TrainingPlace) -> None:
    config = every_kind("sgd")
    write_hashed_partition(config, place.store, DAYS[0], small_rows(70, seed=9))
    run_dir = place.train(config, DAYS[0])
    written = (run_dir / "job.log").stat().st_mtime_ns
    assert place.train(config, DAYS[0]) == run_dir
    assert (run_dir / "job.log").stat().st_mtime_ns == written


def test_without_an_earlier_checkpoint_a_cold_start_must_be_asked_for(place: TrainingPlace) -> None:
    config = every_kind("sgd")
    write_hashed_partition(config, place.store, DAYS[0], small_rows(70, seed=9))
    with pytest.raises(NoParent, match="no checkpoint before"):
        place.train(config, DAYS[0], cold_start=False)


def test_a_missing_partition_is_named(place: TrainingPlace) -> None:
    with pytest.raises(PartitionMissing, match="ds=2026-01-01"):
        place.train(every_kind("sgd"), DAYS[0])


def test_rows_that_were_not_seen_for_too_long_are_gone_before_the_day_begins(place: TrainingPlace) -> None:
    document = every_kind("adagrad").model_dump()
    for table in document["tables"][:2]:
        table["eviction"] = {"max_age_days": 2}
    config = parse_config(document, "aging")
    days = ("2026-02-27", "2026-03-01", "2026-03-02")  # from the first to the last, three days
    last_seen: dict[str, dict[int, str]] = {table.name: {} for table in config.tables}
    for number, ds in enumerate(days):
        rows = small_rows(40, seed=number)
        write_hashed_partition(config, place.store, ds, rows)
        run_dir = place.train(config, ds, cold_start=number == 0)
        publish_checkpoint(place, config, ds, run_dir)
        for name, ids in PlainModel(config, hashed_table(config, rows)).ids.items():
            last_seen[name] |= dict.fromkeys(ids, ds)
    expired = 0
    for at, table in enumerate(config.tables):
        young = {id_ for id_, ds in last_seen[table.name].items() if at >= 2 or ds >= "2026-02-28"}
        assert set(saved_rows(run_dir / "checkpoint", table.name)) == young
        expired += len(last_seen[table.name]) - len(young)
    assert expired > 0
    counted = [t["expired"] for s in metrics_of(run_dir)["servers"] for t in s["tables"].values()]
    assert sum(counted) >= expired  # ids that came back on the last day had expired too
