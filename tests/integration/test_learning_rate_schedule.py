"""Training in mode sync with learning rate schedules equals plain PyTorch with its own schedulers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from torch.optim import lr_scheduler

from persia_core.config import ModelConfig, parse_config
from tests.integration.test_oracle import TOLERANCE, every_kind
from tests.integration.test_training import publish_checkpoint
from tests.support.hashed import hashed_table, write_hashed_partition
from tests.support.plain import PlainModel, largest_relative_difference, saved_rows
from tests.support.small_config import small_rows
from tests.support.training import TrainingPlace

pytestmark = pytest.mark.mpi

DAYS = ("2026-01-01", "2026-01-02")
ROWS, BATCH = 640, 64  # ten steps a day
SCHEDULES: list[dict[str, Any] | None] = [
    {"kind": "cosine", "decay_steps": 12, "warmup_steps": 4, "warmup_start_factor": 0.25},
    {"kind": "exponential", "gamma": 0.8},
    {"kind": "linear", "decay_steps": 16, "final_factor": 0.1},
    None,
]


def scheduled() -> ModelConfig:
    document = every_kind("adagrad").model_dump()
    for table, schedule in zip(document["tables"], SCHEDULES, strict=True):
        table["learning_rate_schedule"] = schedule
    return parse_config(document, "scheduled")


def schedulers_of(plain: PlainModel) -> list[lr_scheduler.LRScheduler]:
    """The same schedules, in torch's words."""
    first, second, third = plain.optimizers[1:4]
    warmup = lr_scheduler.LinearLR(first, start_factor=0.25, end_factor=1.0, total_iters=4)
    cosine = lr_scheduler.CosineAnnealingLR(first, T_max=12)
    end = lr_scheduler.ConstantLR(first, factor=0.0, total_iters=10**9)
    return [
        lr_scheduler.SequentialLR(first, [warmup, cosine, end], milestones=[4, 16]),
        lr_scheduler.ExponentialLR(second, gamma=0.8),
        lr_scheduler.LinearLR(third, start_factor=1.0, end_factor=0.1, total_iters=16),
    ]


def test_schedules_equal_those_of_torch_and_go_on_after_a_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, config = TrainingPlace(tmp_path, monkeypatch), scheduled()
    days = [small_rows(ROWS, seed=seed) for seed in (3, 4)]
    for ds, rows in zip(DAYS, days, strict=True):
        write_hashed_partition(config, place.store, ds, rows)
    publish_checkpoint(place, config, DAYS[0], place.train(config, DAYS[0]))
    checkpoint = place.train(config, DAYS[1], cold_start=False) / "checkpoint"

    plain = PlainModel(config, pa.concat_tables([hashed_table(config, rows) for rows in days]))
    unscheduled = PlainModel(config, pa.concat_tables([hashed_table(config, rows) for rows in days]))
    schedulers = schedulers_of(plain)
    for start in range(0, 2 * ROWS, BATCH):
        plain.step(range(start, start + BATCH))
        unscheduled.step(range(start, start + BATCH))
        for scheduler in schedulers:
            scheduler.step()
    for table, schedule in zip(config.tables, SCHEDULES, strict=True):
        found, expected = saved_rows(checkpoint, table.name), plain.rows_of(table.name)
        assert found.keys() == expected.keys()
        ours, theirs = np.stack([found[id_] for id_ in expected]), np.stack(list(expected.values()))
        assert largest_relative_difference(ours, theirs) <= TOLERANCE, table.name
        if schedule is not None:
            constant = np.stack(list(unscheduled.rows_of(table.name).values()))
            assert largest_relative_difference(ours, constant) > 10 * TOLERANCE, table.name
