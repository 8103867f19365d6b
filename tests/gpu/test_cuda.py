"""The CUDA path against the CPU path; skipped where there is no GPU. `make gpu-checks` runs these alone."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from persia_core.config import ModelConfig
from persia_core.errors import EnvironmentProblem
from persia_core.training.group import TrainerGroup
from tests.support.one_trainer import OneTrainer
from tests.support.small_config import small_config

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: run `make gpu-checks` on a machine with a GPU"
)
STEPS = 50
TOLERANCE = 1e-5


def configured(**training: Any) -> ModelConfig:
    section = {
        "model": "persia_core.models.dlrm:DLRM",
        "staleness": 1,  # the order of updates is fixed, so that both paths do the same
        "dense_optimizer": {"name": "Adam", "args": {"lr": 0.001}},
    }
    return small_config(training=section | training)


def largest_difference(found: OneTrainer, expected: OneTrainer) -> float:
    """max |found - expected| / max |expected| over the tensors, the worst of them."""
    mine, theirs = found.state(), expected.state()
    assert mine.keys() == theirs.keys()
    return max(float(np.abs(mine[k] - theirs[k]).max() / np.abs(theirs[k]).max()) for k in mine)


@pytest.mark.parametrize("rows", [1, 64, 1000])
def test_blocks_change_nothing_on_the_cpu(rows: int) -> None:
    direct, blocks = OneTrainer(configured(), rows), OneTrainer(configured(), rows, blocks=True)
    assert direct.train(10) == blocks.train(10)
    assert largest_difference(blocks, direct) == 0.0


@needs_gpu
@pytest.mark.parametrize("rows", [1, 64, 4096])
def test_cuda_equals_the_cpu(rows: int) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    cpu, cuda = OneTrainer(configured(), rows), OneTrainer(configured(), rows, torch.device("cuda", 0))
    np.testing.assert_allclose(cuda.train(STEPS), cpu.train(STEPS), rtol=TOLERANCE)
    assert largest_difference(cuda, cpu) <= TOLERANCE


@needs_gpu
def test_a_deep_pipeline_overwrites_no_batch_on_its_way() -> None:
    """With SGD and frozen dense parameters the sum of all updates does not depend on their order."""
    frozen = {"staleness": 8, "dense_optimizer": {"name": "SGD", "args": {"lr": 1e-12}}}
    blind = configured(**frozen)
    cpu, cuda = OneTrainer(blind, 512), OneTrainer(blind, 512, torch.device("cuda", 0))
    cpu.train(STEPS)
    cuda.train(STEPS)
    assert largest_difference(cuda, cpu) <= 0.05  # stale rows differ a little; a wrong batch differs wholly


@needs_gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_stays_near_full_precision(precision: str) -> None:
    scaling = {"loss_scaling": {"initial": 256.0}} if precision == "float16" else {}
    full = OneTrainer(configured(), 512, torch.device("cuda", 0))
    reduced = OneTrainer(configured(precision=precision, **scaling), 512, torch.device("cuda", 0))
    np.testing.assert_allclose(reduced.train(STEPS), full.train(STEPS), rtol=0.02)


@pytest.mark.parametrize("more", [1, 7])
def test_fewer_gpus_than_trainers_are_an_error_with_both_numbers(tmp_path: Path, more: int) -> None:
    gpus = torch.cuda.device_count()
    with pytest.raises(EnvironmentProblem, match=f"{gpus} GPUs for {gpus + more} trainers"):
        TrainerGroup.join(0, gpus + more, "cuda", tmp_path / "meet", gpus + more, 5.0, 5.0)


_RANK = """
import sys, torch
from pathlib import Path
from persia_core.training.group import TrainerGroup
import torch.distributed as dist
rank, world = int(sys.argv[1]), int(sys.argv[2])
group = TrainerGroup.join(rank, world, "cuda", Path(sys.argv[3]), world, 60.0, 60.0)
assert dist.get_backend() == "nccl" and group.device == torch.device("cuda", rank)
value = torch.full((1000,), float(rank), device=group.device)
dist.all_reduce(value)
assert value.eq(sum(range(world))).all()
group.barrier()
group.leave()
"""


@needs_gpu
def test_trainers_with_a_gpu_each_meet_over_nccl(tmp_path: Path) -> None:
    world = torch.cuda.device_count()
    ranks = [
        subprocess.Popen([sys.executable, "-c", _RANK, str(rank), str(world), str(tmp_path / "meet")])
        for rank in range(world)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0] * world, socket.gethostname()
