"""What the way of a batch to the GPU and back costs, beside the dense network alone.

`make gpu-checks` runs it on a machine with a GPU. Three contestants in turn: the dense network alone, on a
batch that lies on the GPU already; the same with staging both ways, from lookups made beforehand; and
everything, with the embedding worker and a server in this process.
"""

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import report
from benchmarks.harness import Contestant, Measure, Samples, interleave
from persia_core import _native
from persia_core.config import ModelConfig, parse_config
from persia_core.data.batch import HashedBatch
from persia_core.embedding.pipeline import EmbeddingPipeline
from persia_core.embedding.tables import feature_specs, table_indices, table_specs
from persia_core.training.dense import DenseTraining
from persia_core.training.dense_update import Lockstep
from persia_core.training.group import TrainerGroup
from persia_core.training.staging import BlockStaging
from persia_core.training.step import TrainingStep

log = logging.getLogger("benchmarks.gpu")

FEATURES, DENSE, DIM, TABLE_ROWS = 26, 13, 16, 1_000_000  # the shape of Criteo's click logs
STALENESS = 8
ALONE, STAGED, WHOLE = "dense alone", "with staging", "with rows"
WHAT = "samples/s"


@dataclass(frozen=True)
class _Batch:
    data: HashedBatch


@dataclass(frozen=True)
class _Ready:
    batch: _Batch
    lookup: _native.Lookup


def click_log() -> ModelConfig:
    """DLRM with 26 features of 16 dimensions in as many tables, and 13 dense features."""
    adagrad = {"kind": "rowwise_adagrad", "learning_rate": 0.01}
    names = [f"c{index}" for index in range(FEATURES)]
    document: dict[str, Any] = {
        "name": "gpu-benchmark",
        "dataset": {"name": "clicks", "format": "csv"},
        "features": [
            *({"name": f"d{index}", "kind": "dense"} for index in range(DENSE)),
            *({"name": name, "kind": "categorical", "table": name} for name in names),
        ],
        "tables": [
            {"name": name, "prefix": 1 + index, "dim": DIM, "optimizer": adagrad}
            for index, name in enumerate(names)
        ],
        "training": {
            "model": "persia_core.models.dlrm:DLRM",
            "model_args": {"bottom_mlp": [512, 256], "top_mlp": [1024, 1024, 512]},
            "staleness": STALENESS,
        },
        "storage": {"url": "file:///nowhere"},
    }
    return parse_config(document, "benchmark")


class Place:
    """One network on the device, one server in this process, and batches of one size."""

    def __init__(self, device: torch.device, rows: int, batches: int) -> None:
        self.device, self.rows = device, rows
        self.config = click_log()
        group = TrainerGroup(0, 1, device, None)
        dense = DenseTraining.build(self.config, device)
        self.staging = BlockStaging(device, table_indices(self.config), STALENESS)
        self.step = TrainingStep(self.config, group, dense, Lockstep(group, dense.optimizer), self.staging)
        self.worker = _native.EmbeddingWorker(
            transport="in-process",
            servers=1,
            tables=table_specs(self.config),
            features=feature_specs(self.config),
            trainer=0,
            trainers=1,
            staleness=STALENESS,
            combine=False,
            seed=1,
            timeout_s=600.0,
            server_threads=4,
        )
        self.worker.configure()
        self.data = [self._draw(number) for number in range(batches)]
        self.next = 0

    def _draw(self, number: int) -> HashedBatch:
        rng = np.random.default_rng(number)
        prefix = 64 - self.config.dataset.prefix_bits
        ids = [
            (rng.zipf(1.2, self.rows) % TABLE_ROWS).astype(np.uint64) + np.uint64((1 + index) << prefix)
            for index in range(FEATURES)
        ]
        offsets = [np.arange(self.rows + 1, dtype=np.int64)] * FEATURES
        dense = rng.standard_normal((self.rows, DENSE)).astype(np.float32)
        labels = (rng.random(self.rows) < 0.3).astype(np.float32)
        return HashedBatch(labels, dense, ids, offsets)

    def ready(self) -> list[_Ready]:
        """All batches with lookups of an evaluation, which may be used again and again."""
        return [
            _Ready(_Batch(data), self.worker.lookup(0, data.ids, data.offsets, False)) for data in self.data
        ]

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def dense_alone(place: Place, steps: int) -> None:
    """The network, its loss and its optimizer; no gradient leaves the GPU."""
    [(_, inputs)] = place.staging.ahead(place.ready()[:1])
    place.staging.use(inputs)
    network, optimizer = place.step.network, place.step.optimizer
    for _ in range(steps):
        network.zero_grad(set_to_none=True)
        logits = network(inputs.dense, inputs.buffers, inputs.places)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, inputs.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def with_staging(place: Place, steps: int) -> None:
    """The training step on batches that come from the host, and whose gradients go back there."""
    ready = place.ready()
    for _, inputs in place.staging.ahead(ready[number % len(ready)] for number in range(steps)):
        place.step.run(inputs, place.rows)
        place.step.apply()


def with_rows(place: Place, steps: int) -> None:
    """As in a job: lookups ahead, updates behind, with the server in this process."""
    source = (_Batch(place.data[number % len(place.data)]) for number in range(steps))
    with EmbeddingPipeline(place.worker, source, STALENESS, place.next) as pipeline:
        for ready, inputs in place.staging.ahead(pipeline):
            result = place.step.run(inputs, place.rows)
            if result.skip is None:
                pipeline.update(ready, result.gradients, result.scale)
                place.step.apply()
            else:
                pipeline.discard(ready)
        pipeline.drain()
    place.next += steps


def measure(place: Place, steps: int) -> list[Contestant]:
    """The three ways, each warmed up when it is opened."""

    @contextmanager
    def opened(way: Any) -> Iterator[Measure]:
        way(place, 3)
        place.synchronize()

        def timed(_: int) -> dict[str, float]:
            started = time.perf_counter()
            way(place, steps)
            place.synchronize()
            return {WHAT: steps * place.rows / (time.perf_counter() - started)}

        yield timed

    def contestant(name: str, way: Any) -> Contestant:
        open_: Any = partial(opened, way)
        opening: partial[AbstractContextManager[Measure]] = open_
        return Contestant(name, 0, opening)

    ways = ((ALONE, dense_alone), (STAGED, with_staging), (WHOLE, with_rows))
    return [contestant(name, way) for name, way in ways]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batches", type=int, nargs="+", default=[4096, 16_384, 65_536], help="samples each")
    parser.add_argument("--steps", type=int, default=50, help="per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=report.RESULTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "there is no CUDA device here; run this on a machine with a GPU (--device cpu shows that it runs)"
        )

    results: dict[int, Samples] = {}
    for rows in arguments.batches:
        log.info("batches of %d", rows)
        results[rows] = interleave(
            measure(Place(device, rows, batches=4), arguments.steps), arguments.rounds, tries=1
        )
    names = (ALONE, STAGED, WHOLE)
    figures = {
        f"{name.replace(' ', '_')}_ratio_batch{rows}": ratio
        for rows, samples in results.items()
        for name in (STAGED, WHOLE)
        if (ratio := samples.ratio(name, ALONE, WHAT)) is not None
    }
    table = [
        [f"{rows:,}", *(f"{samples.median(name, WHAT) or 0:,.0f}" for name in names)]
        for rows, samples in results.items()
    ]
    report.print_table(f"samples/s on {arguments.device}", ["batch", *names], table)
    report.print_table("figures", ["", ""], [[name, f"{value:.4g}"] for name, value in figures.items()])
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    raw = {str(rows): samples.values for rows, samples in results.items()}
    path = arguments.out / "gpu.json"
    report.write(path, figures, raw, [f"dense network on {on}"], report.make_command("gpu-checks"))
    print(f"result: {path}")


if __name__ == "__main__":
    main()
