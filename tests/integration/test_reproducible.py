"""training.reproducible: two runs of the same job leave the same bits."""

from pathlib import Path
from typing import Any

import pytest

from persia_core.config import ModelConfig, parse_config
from persia_core.errors import ConfigError
from persia_core.handoff.manifest import Manifest
from tests.integration.test_oracle import every_kind
from tests.integration.test_training import DAYS, changed, place
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_rows
from tests.support.training import TrainingPlace

__all__ = ["place"]


def reproducible(trainers: int, **training: Any) -> ModelConfig:
    section = {
        "model": "persia_core.models.dlrm:DLRM",
        "model_args": {"dropout": 0.2},
        "dense_optimizer": {"name": "Adam", "args": {"lr": 0.01}},
        "shuffle": True,
        "reproducible": True,
    }
    config = changed(
        every_kind("adagrad"),
        training=section | training,
        cluster={"servers": 2, "server_threads": 2, "trainers": trainers},
    )
    document = config.model_dump()
    document["tables"][1]["weight_type"] = "bfloat16"  # stochastic rounding is a function of the step
    return parse_config(document, "reproducible")


@pytest.mark.mpi
def test_two_runs_leave_the_same_bits(place: TrainingPlace) -> None:
    config = reproducible(trainers=2)
    write_hashed_partition(config, place.store, DAYS[0], small_rows(64 * 15 + 1, seed=1))
    checkpoints = [place.train(config, DAYS[0], run) / "checkpoint" for run in ("first", "second")]
    names = sorted(path.name for path in checkpoints[0].iterdir())
    assert {"dense.safetensors", "optimizer.safetensors", "state.json", "embedding-1.safetensors"} <= set(
        names
    )
    first, second = (manifest_of(each) for each in checkpoints)
    assert [(part.path, part.sha256) for part in first.parts] == [(p.path, p.sha256) for p in second.parts]
    assert first.digest == second.digest
    another = changed(config, training={"seed": 43})
    assert manifest_of(place.train(another, DAYS[0], "third") / "checkpoint").digest != first.digest


def manifest_of(checkpoint: Path) -> Manifest:
    return Manifest.from_bytes((checkpoint / "manifest.json").read_bytes(), str(checkpoint))


@pytest.mark.parametrize(
    ("trainers", "training", "what"),
    [
        (1, {"mode": "hybrid", "staleness": 2}, "reproducible needs staleness 1"),
        (1, {"mode": "async", "staleness": 1}, "given are staleness 1 and mode async"),
        (2, {"mode": "hybrid", "staleness": 1}, "with 2 trainers needs training.mode: sync"),
    ],
)
def test_what_depends_on_who_is_faster_is_refused(trainers: int, training: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        reproducible(trainers, **training)


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ({"capacity_bytes": 10_000}, "capacity_bytes"),
        ({"admission": {"kind": "sightings", "count": 2}}, "admission: sightings"),
    ],
)
def test_tables_that_depend_on_the_order_of_lookups_take_one_trainer(
    option: dict[str, Any], what: str
) -> None:
    document = reproducible(trainers=2).model_dump()
    document["tables"][0] |= option
    with pytest.raises(ConfigError, match=f"table user must not have {what}"):
        parse_config(document, "here")
    document["cluster"]["trainers"] = 1
    document["training"]["mode"] = "hybrid"
    assert parse_config(document, "here").training.reproducible
