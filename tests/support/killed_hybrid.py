"""The same day trained in hybrid with and without kills, and the AUC of what came out on a fixed test set.

Labels are drawn from a planted logistic model. The checkpoint is scored here, from its files alone: rows
found by sorted ids, pooling being the row itself, and the dense network that the configuration names.
"""

import random
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from persia_core.config import ModelConfig, parse_config
from persia_core.exit_codes import ExitCode
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.local_store import LocalStore
from persia_core.training.dense import build_model
from persia_core.training.metrics import auc
from tests.support.crash import CrashJob
from tests.support.hashed import write_hashed_table

DS = "2026-01-01"
FEATURES = {"user": 3000, "item": 1000, "place": 40}  # how many values each has
Ids = dict[str, NDArray[np.uint64]]
RANKS = 5  # two servers, an embedding worker, two trainers
_PREFIX_BITS = 8
_TEST = 1_000_000  # of the key of the random stream of the test set


@dataclass(frozen=True)
class Size:
    """Rows of the day and of the test set, and steps between two cuts."""

    rows: int
    test_rows: int
    cut_every: int


SUITE = Size(rows=64 * 400, test_rows=100_000, cut_every=40)
LONG = Size(rows=64 * 3000, test_rows=200_000, cut_every=150)


@dataclass(frozen=True)
class Trained:
    """What a run came to. `codes` are the exit codes of its attempts, `resumed_at` its steps."""

    auc: float
    codes: list[int]
    resumed_at: list[int]


def configured(home: Path, size: Size, seed: int) -> ModelConfig:
    """A rank or two of every role, mode hybrid with the default bound on staleness."""
    adagrad = {"kind": "adagrad", "learning_rate": 0.03, "initial_accumulator": 0.1}
    document = {
        "name": "killed-hybrid",
        "dataset": {"name": "planted", "format": "csv", "time_column": "t", "salt": "s"},
        "features": [
            {"name": "price", "kind": "dense"},
            *({"name": name, "kind": "categorical", "table": name} for name in FEATURES),
        ],
        "tables": [
            {"name": name, "prefix": 1 + number, "dim": 4, "optimizer": adagrad}
            for number, name in enumerate(FEATURES)
        ],
        "training": {
            "mode": "hybrid",
            "staleness": 4,
            "seed": seed,
            "global_batch_size": 64,
            "model": "persia_core.models.dnn:DNN",
            "model_args": {"hidden": [16]},
            "dense_optimizer": {"name": "Adam", "args": {"lr": 0.001}},
        },
        "cluster": {"servers": 2, "embedding_workers": 1, "trainers": 2},
        "checkpoint": {"every_seconds": None, "every_steps": size.cut_every},
        "storage": {"url": f"file://{home / 'store'}"},
    }
    return parse_config(document, "killed hybrid")


class HybridDay:
    """A day and a test set of one seed, to be trained again and again under names of its own."""

    def __init__(self, home: Path, size: Size, seed: int) -> None:
        self._home = home
        self._size = size
        self._seed = seed
        self._config = configured(home, size, seed)
        assert self._config.dataset.prefix_bits == _PREFIX_BITS
        world = np.random.default_rng([seed])
        self._effects = {name: world.normal(0, 0.8, values) for name, values in FEATURES.items()}
        self._ids = {
            name: (np.uint64(1 + number) << np.uint64(64 - _PREFIX_BITS))
            | world.integers(0, 1 << (64 - _PREFIX_BITS), values, dtype=np.uint64)
            for number, (name, values) in enumerate(FEATURES.items())
        }
        table, _, _ = self._rows(0, size.rows)
        write_hashed_table(self._config, LocalStore(home / "store"), DS, table)

    def _rows(self, stream: int, rows: int) -> tuple[pa.Table, NDArray[np.float32], Ids]:
        """The hashed table, dense values [rows, 1], and ids [rows] of each feature."""
        rng = np.random.default_rng([self._seed, stream])
        price = rng.normal(size=rows).astype(np.float32)
        logit = 0.7 * price - 1.0
        ids = {}
        for name, values in FEATURES.items():
            chosen = np.minimum(rng.exponential(values / 4, rows).astype(np.int64), values - 1)
            logit = logit + self._effects[name][chosen]
            ids[name] = self._ids[name][chosen]
        label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        columns = {"label": label, "time": np.arange(rows, dtype=np.int64), "price": price}
        signed = {name: each.view(np.int64) for name, each in ids.items()}
        return pa.table(columns | signed), price[:, None], ids

    def train(self, run: str, kills: int = 0) -> Trained:
        """Train it to the end, `kills` times interrupted: each time a random rank gets SIGKILL.

        A kill comes when a cut is complete, or when the next one has been begun: what was trained since the
        last whole one is lost then.
        """
        job = CrashJob(self._home, self._config, DS, run)
        generator = random.Random(f"{self._seed} {run}")
        cuts = self._size.rows // self._config.training.global_batch_size // self._size.cut_every
        moments = sorted(generator.sample(range(1, cuts - 1), kills))
        codes = []
        for moment in moments:
            rank, at = generator.randrange(RANKS), self._size.cut_every * moment
            place = job.run_dir / "cuts" / str(at)
            place = generator.choice([place / MANIFEST, place.with_name(str(at + self._size.cut_every))])
            job.start(cold_start=True)
            job.wait_for(place.exists, f"{place} was there")
            job.signal(rank, signal.SIGKILL)
            codes.append(job.finish().code)
            job.check_nothing_is_left()
            job.check_no_partial_checkpoint()
        job.start(cold_start=True)
        outcome = job.finish()
        assert outcome.code == ExitCode.OK, outcome.said[-4000:]
        metrics = job.metrics()
        rows = self._size.rows
        assert (metrics["rows_in"], metrics["rows_trained"], metrics["rows_skipped"]) == (rows, rows, {})
        return Trained(self._score(job.run_dir / "checkpoint"), [*codes, outcome.code], metrics["resumed_at"])

    def _score(self, checkpoint: Path) -> float:
        """AUC on the test set, of its rows whose ids were all trained."""
        table, price, ids = self._rows(_TEST, self._size.test_rows)
        labels = table["label"].to_numpy()
        tensors = [load_file(path) for path in sorted(checkpoint.glob("embedding-*.safetensors"))]
        known = np.ones(len(labels), bool)
        embeddings = {}
        for name, wanted in ids.items():
            have = torch.cat([each[f"{name}.ids"] for each in tensors]).numpy().view(np.uint64)
            weights = torch.cat([each[f"{name}.weights"] for each in tensors]).float()
            order = np.argsort(have)
            place = np.minimum(np.searchsorted(have[order], wanted), len(have) - 1)
            known &= have[order][place] == wanted
            embeddings[name] = weights[torch.from_numpy(order[place])]
        assert known.mean() > 0.9, "too few of the ids are in the checkpoint"
        network = build_model(self._config)
        network.load_state_dict(load_file(checkpoint / "dense.safetensors"))
        with torch.no_grad():
            logits = network.eval()(torch.from_numpy(price), embeddings).numpy()
        found = auc(labels[known], logits[known])
        assert found is not None
        return found
