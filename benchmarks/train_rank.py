"""The trainer rank of the training benchmark, in whose process all contestants take turns.

Started by benchmarks.train under mpiexec, beside one embedding server, which sleeps while others are
measured.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contestants import fbgemm
from benchmarks.harness import Contestant, Measure, interleave
from benchmarks.train_contestants import Batches, Ceiling, Fbgemm, Ours, SparseTorch, Trained


@contextmanager
def _measured(contestant: Trained, batches: Batches) -> Iterator[Measure]:
    contestant.train(batches.take(0)[:2])  # whatever is made at the first call

    def measure(number: int) -> dict[str, float]:
        steps = batches.take(number)
        start = time.perf_counter()
        contestant.train(steps)
        return {"samples/s": len(steps) * batches.samples / (time.perf_counter() - start)}

    yield measure


def main() -> None:
    """Measure all contestants that this machine has; writes their samples and why somebody is left out."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    rows, dim = settings["rows"], settings["dim"]
    batches = Batches(rows, settings["samples"], settings["steps"], settings["rounds"])
    ours = Ours(rows, dim, settings["samples"], Path(sys.argv[2]).parent, settings["priority"])

    def contestant(name: str, bytes_per_row: int, make: Any) -> Contestant:
        def open_it() -> AbstractContextManager[Measure]:
            return _measured(make(), batches)

        return Contestant(name, bytes_per_row * rows, open_it)

    everyone = [
        contestant("ours", 0, lambda: ours),  # its rows are filled already
        contestant("dense part alone", 0, lambda: Ceiling(dim)),
        contestant("torch", 8 * dim, lambda: SparseTorch(rows, dim)),
    ]
    notes = []
    if reason := fbgemm.missing():
        notes.append(f"left out: {reason}")
    else:
        everyone.append(contestant("fbgemm", 4 * dim + 4, lambda: Fbgemm(rows, dim, settings["samples"])))
    wanted = [each for each in everyone if not settings["only"] or each.name in settings["only"]]
    samples = interleave(wanted, settings["rounds"], settings["tries"], root=os.getppid())
    ours.close()
    if not samples.together:
        notes.append("memory holds one contestant at a time; each was filled anew in every round")
    Path(sys.argv[2]).write_text(json.dumps({"samples": asdict(samples), "notes": notes}), encoding="utf-8")


if __name__ == "__main__":
    main()
