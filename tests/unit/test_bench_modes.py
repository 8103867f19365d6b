"""The parts of the study of the modes that a wrong figure could come from."""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from benchmarks import report
from benchmarks.modes import Outcome, part_of
from benchmarks.study import raw
from benchmarks.study.figures import auc_figures, paired, throughput_figures
from benchmarks.study.plan import DATA, PERSIA_SETTING, SETTINGS, configured, fingerprint, resolved
from benchmarks.study.records import Records, run_missing
from benchmarks.study.seeded import SeedWorker, key_of
from persia_core._native import EmbeddingWorker


def test_a_difference_is_that_of_equal_seeds() -> None:
    rng = np.random.default_rng(3)
    mine, theirs = rng.random(7), rng.random(7)
    found = paired(
        {seed: float(value) for seed, value in enumerate(mine)},
        {seed: float(value) for seed, value in reversed(list(enumerate(theirs)))} | {99: 0.5},
    )
    assert found is not None
    assert found.seeds == 7
    np.testing.assert_allclose(found.mean, (mine - theirs).mean(), rtol=1e-12)
    np.testing.assert_allclose(found.stderr, (mine - theirs).std(ddof=1) / math.sqrt(7), rtol=1e-12)
    assert paired({1: 0.5}, {2: 0.5}) is None


def test_figures_compare_the_default_staleness_and_async_with_sync() -> None:
    aucs = {
        "adult": {
            "sync": {1: 0.90, 2: 0.80},
            "hybrid-4": {1: 0.88, 2: 0.80},
            "hybrid-64": {1: 0.1, 2: 0.1},
            "async": {1: 0.87, 2: 0.75},
        },
        "criteo": {"sync": {1: 0.7}},
    }
    figures = auc_figures(aucs)
    assert figures.keys() == {
        f"auc_{mode}_minus_sync_adult{end}" for mode in ("hybrid", "async") for end in ("", "_stderr")
    }
    assert figures["auc_hybrid_minus_sync_adult"] == pytest.approx(-0.01)
    assert figures["auc_hybrid_minus_sync_adult_stderr"] == pytest.approx(0.01)
    assert figures["auc_async_minus_sync_adult"] == pytest.approx(-0.04)


def test_throughput_is_compared_within_a_round() -> None:
    speeds = {
        0.0: {"sync": [10.0, 20.0, 10.0], "hybrid": [20.0, 60.0, 30.0], "async": [20.0, 50.0, 40.0]},
        10.0: {"sync": [5.0, 5.0, 5.0], "hybrid": [19.0, 30.0, 30.0], "async": [20.0, 40.0, 30.0]},
    }
    figures = throughput_figures(speeds)
    assert figures["hybrid_vs_sync_at_0ms"] == 3.0
    assert figures["hybrid_vs_sync_at_10ms"] == figures["hybrid_vs_sync_at_delay"] == 6.0
    assert figures["hybrid_vs_async_at_delay"] == 0.95
    assert figures["hybrid_kept_at_10ms"] == 0.95
    assert figures["hybrid_kept_at_0ms"] == 1.0


class Recorder:
    """A worker that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, list[Any], bool]] = []

    def lookup(self, batch: int, ids: list[Any], offsets: list[Any], training: bool, buffers: Any) -> None:
        del offsets, buffers
        self.asked.append((batch, [each.tolist() for each in ids], training))

    begin_lookup = lookup

    def stats(self) -> str:
        return "stats"


def test_every_seed_has_ids_of_its_own_in_the_same_table() -> None:
    ids = (np.uint64(0xABCD) << np.uint64(48)) | np.arange(1000, dtype=np.uint64)
    recorder = Recorder()
    worker = cast("EmbeddingWorker", recorder)
    for seed in range(20):
        SeedWorker(worker, seed, 0).begin_lookup(0, [ids], [], True)
    assert ids.tolist() == list(range(0xABCD << 48, (0xABCD << 48) + 1000))  # left as they were
    asked = [set(found[0]) for _, found, _ in recorder.asked]
    assert all(len(found) == 1000 for found in asked)
    assert len(set().union(*asked)) == 20 * 1000
    assert {id_ >> 48 for found in asked for id_ in found} == {0xABCD}
    again = SeedWorker(worker, 7, 0)
    again.lookup(0, [ids], [], False)  # what is evaluated are the rows that were trained
    assert set(recorder.asked[-1][1][0]) == asked[7]
    assert key_of(1) != key_of(2)


def test_batches_are_numbered_on_over_partitions_and_seeds() -> None:
    recorder = Recorder()
    worker = cast("EmbeddingWorker", recorder)
    first = SeedWorker(worker, 1, 0)
    for batch in (0, 1, 2, 0, 1):  # two partitions
        first.begin_lookup(batch, [], [], True)
    first.lookup(0, [], [], False)  # an evaluation takes no number
    second = SeedWorker(worker, 2, first.next_batch)
    second.lookup(0, [], [], True)
    assert [batch for batch, _, training in recorder.asked if training] == [0, 1, 2, 3, 4, 5]
    assert second.stats() == "stats"


@pytest.mark.parametrize(
    ("fails", "asked", "left"),
    [([], [[1, 2, 3]], []), ([2], [[1, 2, 3], [2, 3]], []), ([1, 1], [[1, 2, 3], [1, 2, 3]], [1, 2, 3])],
)
def test_a_job_that_fails_is_run_once_more_for_the_seeds_it_has_not_left(
    fails: list[int], asked: list[list[int]], left: list[int]
) -> None:
    missing = [1, 2, 3]
    found: list[list[int]] = []

    def job(seeds: list[int]) -> None:
        found.append(seeds)
        for seed in seeds:
            if fails and fails[0] == seed:
                fails.pop(0)
                raise RuntimeError(f"seed {seed}")
            missing.remove(seed)

    twice = len(fails) == 2
    with pytest.raises(RuntimeError, match="seed 1") if twice else nullcontext():
        run_missing(job, lambda: list(missing))
    assert found == asked
    assert missing == left


def test_sessions_are_sampled_whole_and_a_missing_item_is_empty() -> None:
    rng = np.random.default_rng(5)
    n = 20_000
    frame = pd.DataFrame(
        {
            "label": "0",
            "session": rng.integers(0, 3000, n).astype(str),
            "item": rng.integers(1, 50, n).astype(str),
            "last": rng.integers(0, 50, n).astype(str),
            "last2": "0",
            "first": "10",
        }
    )
    kept = raw.sampled_sessions(frame)
    counts = frame["session"].value_counts()
    assert all(counts[session] == rows for session, rows in kept["session"].value_counts().items())
    share = kept["session"].nunique() / frame["session"].nunique()
    assert abs(share - 1 / raw.YOOCHOOSE_SHARE) < 0.03
    assert (kept["last2"] == "").all()
    assert (kept["first"] == "10").all()
    before = frame.loc[kept.index, "last"]
    assert (kept["last"] == before.where(before != "0", "")).all()
    assert (kept["step"] == before + ">" + kept["item"]).all()


def test_a_line_that_was_cut_off_is_dropped_and_other_configurations_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "auc.jsonl"
    lines = [{"key": "a", "seed": 1, "auc": 0.5}, {"key": "b", "seed": 2, "auc": 0.6}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"key": "a", "se')
    records = Records(path)
    assert records.of("a") == {1: lines[0]}
    with path.open("a") as file:
        file.write('{"key": "a", "seed": 3}\n')
    assert set(records.of("a")) == {1, 3}


def test_a_result_belongs_to_its_configuration_and_its_partitions() -> None:
    adult, criteo = DATA[0], DATA[1]
    keys = [fingerprint(configured(data, setting), ["x"]) for data in (adult, criteo) for setting in SETTINGS]
    keys += [fingerprint(configured(adult, SETTINGS[0]), ["y"])]
    keys += [fingerprint(configured(adult, SETTINGS[0], cluster={"timeout_s": 7.0}), ["x"])]
    assert len(set(keys)) == len(keys)
    assert fingerprint(configured(adult, SETTINGS[0]), ["x"]) == keys[0]


@pytest.mark.parametrize("data", [*DATA, PERSIA_SETTING], ids=lambda data: data.name)
def test_the_configurations_of_the_study_are_right(data: Any, tmp_path: Path) -> None:
    from persia_core.training.dense import build_model

    for setting in SETTINGS:
        config = resolved(configured(data, setting), tmp_path)
        assert (config.training.mode, config.training.staleness) == (setting.mode, setting.staleness)
        assert config.cluster.trainers == (1 if data is PERSIA_SETTING else 2)
    build_model(config)


def test_the_setting_of_persias_example_is_kept(tmp_path: Path) -> None:
    config = resolved(PERSIA_SETTING.document(), tmp_path)
    assert len(config.id_features) == 8
    assert len(config.dense_features) == 5
    assert {(table.dim, table.optimizer.kind, table.optimizer.learning_rate) for table in config.tables} == {
        (8, "adagrad", 0.01)
    }
    training = config.training
    assert (training.dense_optimizer.name, training.dense_optimizer.args) == ("SGD", {"lr": 0.1})
    assert (training.global_batch_size, training.epochs, training.cold_start_epochs) == (128, 1, None)


def test_a_part_that_is_not_run_is_kept_and_named(tmp_path: Path) -> None:
    path = tmp_path / "modes.json"
    earlier = {
        "figures": {"auc_hybrid_minus_sync_adult": 0.1, "hybrid_vs_sync_at_delay": 3.0},
        "samples": {"auc": {"adult": 1}, "delay": {"values": 2}},
        "date": "then",
        "commit": "abc",
    }
    path.write_text(json.dumps(earlier))
    outcome = Outcome({"auc_hybrid_minus_sync_adult": 0.2}, {"auc": {"adult": 5}})
    report.keep(path, "delay", part_of, outcome.figures, outcome.samples, outcome.notes)
    assert outcome.figures == {"auc_hybrid_minus_sync_adult": 0.2, "hybrid_vs_sync_at_delay": 3.0}
    assert outcome.samples == {"auc": {"adult": 5}, "delay": {"values": 2}}
    assert outcome.notes == ["delay: of the run of then, commit abc"]
