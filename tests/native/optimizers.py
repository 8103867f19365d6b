"""The oracle of the optimizers: one step of one row in NumPy float64, written from the papers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def initial_state(optimizer: dict[str, Any], dim: int) -> list[Array]:
    """The state of a row before any step."""
    start = float(optimizer.get("initial_accumulator", 0.0))
    match optimizer["kind"]:
        case "sgd":
            return [np.zeros(dim)]
        case "adagrad":
            return [np.full(dim, start)]
        case "rowwise_adagrad":
            return [np.full(1, start)]
        case "adam":
            return [np.zeros(dim), np.zeros(dim), np.zeros(1)]
        case "ftrl":
            return [np.zeros(dim), np.full(dim, start)]
    raise ValueError(optimizer["kind"])


def step(optimizer: dict[str, Any], w: Array, state: list[Array], g: Array) -> tuple[Array, list[Array]]:
    """Weights and state after a step with gradient `g`."""
    o = {"momentum": 0.0, "weight_decay": 0.0} | optimizer
    rate = o["learning_rate"]
    match o["kind"]:
        case "sgd":
            buffer = o["momentum"] * state[0] + g + o["weight_decay"] * w
            return w - rate * buffer, [buffer]
        case "adagrad" | "rowwise_adagrad":
            square = g * g if o["kind"] == "adagrad" else np.array([np.mean(g * g)])
            total = state[0] + square
            return w - rate * g / (np.sqrt(total) + o["epsilon"]), [total]
        case "adam":
            t = state[2] + 1
            m = o["beta1"] * state[0] + (1 - o["beta1"]) * g
            v = o["beta2"] * state[1] + (1 - o["beta2"]) * g * g
            unbiased_m, unbiased_v = m / (1 - o["beta1"] ** t), v / (1 - o["beta2"] ** t)
            return w - rate * unbiased_m / (np.sqrt(unbiased_v) + o["epsilon"]), [m, v, t]
        case "ftrl":
            z, n = state
            sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / rate
            z, n = z + g - sigma * w, n + g * g
            pull = (o["beta"] + np.sqrt(n)) / rate + o["l2"]
            kept = np.abs(z) > o["l1"]
            safe = np.where(kept, pull, 1.0)
            return np.where(kept, -(z - np.sign(z) * o["l1"]) / safe, 0.0), [z, n]
    raise ValueError(o["kind"])
