"""Reduced precision, one trainer: steps equal plain torch with autocast and torch.amp.GradScaler."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from persia_core import _native
from persia_core.config import ModelConfig
from persia_core.config.training import LossScaling
from persia_core.data.batch import HashedBatch
from persia_core.training.account import NON_FINITE, OVERFLOW, Account
from persia_core.training.loss_scale import LossScale
from tests.support.one_trainer import OneTrainer
from tests.support.small_config import small_config

ROWS = 32


def configured(precision: str, **training: Any) -> ModelConfig:
    section = {
        "model": "tests.support.models:OverflowOnMarkedBatch",
        "model_args": {"marker": 100.0},
        "dense_optimizer": {"name": "SGD", "args": {"lr": 0.1, "momentum": 0.9}},
        "precision": precision,
    }
    return small_config(training=section | training)


def one_trainer(precision: str, **training: Any) -> OneTrainer:
    return OneTrainer(configured(precision, **training), ROWS)


def batch(one: OneTrainer, number: int, marked: bool = False) -> tuple[HashedBatch, _native.Lookup]:
    data = one.data(number)
    if marked:
        data.dense[0, 0] = 200.0
    return data, one.lookup(number, data)


def plain_gradients(
    one: OneTrainer,
    data: HashedBatch,
    lookup: _native.Lookup,
    scaler: torch.amp.GradScaler,
    dtype: torch.dtype,
) -> list[torch.Tensor]:
    """Forward and backward as texts on mixed precision write them; unscaled gradients of the leaves."""
    names = [feature.name for feature in one.config.id_features]
    leaves = [torch.from_numpy(pooled.copy()).requires_grad_(True) for pooled in lookup.pooled]
    one.plain.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        logits = one.plain(torch.from_numpy(data.dense), dict(zip(names, leaves, strict=True)))
    loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), torch.from_numpy(data.labels))
    scaler.scale(loss).backward()
    return [leaf.grad / scaler.get_scale() for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_steps_equal_plain_mixed_precision(precision: str) -> None:
    scaled = precision == "float16"
    scaling = {"loss_scaling": {"initial": 1024.0, "growth_interval": 3}} if scaled else {}
    one = one_trainer(precision, **scaling)
    optimizer = torch.optim.SGD(one.plain.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3, enabled=scaled)
    unscaled = torch.amp.GradScaler("cpu", enabled=False)
    for number in range(8):
        data, lookup = batch(one, number)
        full = plain_gradients(one, data, lookup, unscaled, torch.float32)
        expected = plain_gradients(one, data, lookup, scaler, getattr(torch, precision))
        result = one.run(data, lookup)
        assert result.skip is None
        for found, gradient, exact in zip(result.gradients, expected, full, strict=True):
            np.testing.assert_allclose(found * result.scale, gradient.numpy(), rtol=1e-6)
            assert not torch.equal(gradient, exact), "it was computed with less precision"
            assert (gradient - exact).abs().mean() < 0.05 * exact.abs().mean()
        scaler.step(optimizer)
        scaler.update()
        for trained, plain in zip(one.dense.model.parameters(), one.plain.parameters(), strict=True):
            torch.testing.assert_close(trained, plain, rtol=1e-6, atol=1e-7)
            assert trained.dtype == torch.float32
    if one.dense.loss_scale is not None:
        assert one.dense.loss_scale.scale == scaler.get_scale() == 4096.0


def test_an_overflow_skips_the_step_lowers_the_scale_and_has_its_own_reason() -> None:
    one = one_trainer("float16", loss_scaling={"initial": 64.0})
    before = copy.deepcopy(one.dense.model.state_dict())
    assert one.run(*batch(one, 0, marked=True)).skip == OVERFLOW
    assert one.dense.loss_scale is not None
    assert one.dense.loss_scale.scale == 32.0
    for name, value in one.dense.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert one.run(*batch(one, 1)).skip is None


def test_an_overflow_that_no_scale_explains_is_a_gradient_that_is_not_finite() -> None:
    one = one_trainer("float16", loss_scaling={"initial": 1.0})
    assert one.run(*batch(one, 0, marked=True)).skip == NON_FINITE
    one = one_trainer("bfloat16")
    assert one.run(*batch(one, 0, marked=True)).skip == NON_FINITE


def test_the_scale_follows_the_rules_of_grad_scaler() -> None:
    rules = LossScaling(initial=8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=3)
    scale = LossScale(rules)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=3
    )
    rng = np.random.default_rng(5)
    seen = set()
    for step, overflow in enumerate(rng.random(200) < 0.2):
        parameter.grad = torch.tensor([math.inf if overflow else 1.0])
        scaler.scale(torch.zeros(()))  # makes the scaler's tensors
        scaler.step(optimizer)
        scaler.update()
        scale.update(bool(overflow))
        if step == 100:  # stop, restore, continue
            restored = LossScale(rules)
            restored.load_state_dict(scale.state_dict())
            scale = restored
        assert scale.scale == scaler.get_scale()
        seen.add(scale.scale)
    assert len(seen) > 5


def test_overflows_do_not_count_as_divergence() -> None:
    account = Account(rows=10, steps=3, epochs=1)
    account.skipped(np.arange(5), OVERFLOW)
    assert not account.too_many_skipped(0.0)
    account.skipped(np.arange(5, 6), NON_FINITE)
    assert account.too_many_skipped(0.0)
    account.skipped(np.arange(4, 8), NON_FINITE)  # a row is skipped for the first reason only
    assert account.rows_skipped == {OVERFLOW: 5, NON_FINITE: 3}
    assert account.to_dict()["rows_trained"] == 2
