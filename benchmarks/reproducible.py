"""What `training.reproducible` costs: the same jobs with and without it, in turn.

    python -m benchmarks.reproducible

Two trainers and one server on this host, DLRM on made-up rows. Prints samples/s of training, and ratios.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report
from persia_core.config import ModelConfig, parse_config
from persia_core.handoff.local_store import LocalStore
from persia_core.launch.train import train_partition
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_config, small_rows

DS = "2026-01-01"
WAYS: dict[str, dict[str, Any]] = {
    "hybrid": {"mode": "hybrid", "staleness": 4},
    "sync": {"mode": "sync", "staleness": 1},
    "reproducible": {"mode": "sync", "staleness": 1, "reproducible": True},
}


def configured(way: str) -> ModelConfig:
    """DLRM with layers wide enough that arithmetic counts."""
    document = small_config().model_dump()
    document["training"] |= WAYS[way] | {
        "model_args": {"bottom_mlp": [256, 128], "top_mlp": [512, 256]},
        "global_batch_size": 2048,
    }
    document["cluster"]["trainers"] = 2
    return parse_config(document, "benchmark")


def main() -> None:
    """Run all ways in turn, several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as home:
        os.environ["PERSIA_HOME"] = str(Path(home) / "home")
        store = LocalStore(Path(home) / "store")
        write_hashed_partition(configured("sync"), store, DS, small_rows(arguments.rows))
        for number in range(arguments.rounds):
            for way in WAYS:
                result = train_partition(configured(way), store, DS, f"{way}-{number}", cold_start=True)
                rates[way].append(float(result.metrics["samples_per_second"]))
    rows = []
    for way, values in rates.items():
        ratio = statistics.median(v / s for v, s in zip(values, rates["sync"], strict=True))
        rows.append([way, f"{statistics.median(values):,.0f}", f"{ratio:.2f}"])
    report.print_table("training alone", ["", "samples/s", "to sync"], rows)


if __name__ == "__main__":
    main()
