"""Ranks of test_hostile_ranks.py: rank 1 collects no replies, rank 2 is an ordinary trainer."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from mpi4py import MPI
from mpi_ranks import LOOKUP_TAG, SERVER, WORLD, code_of, configured_worker, hear, receive, tell, wait_for
from reference import id_of, make_table
from test_frames import LOOKUP, frame, lookup_payload

from persia_core.embedding.server import server_program

FLOODING, GOOD = 1, 2
REQUESTS = 300
TABLE = make_table("t", 1, 1024)
VALUES = list(range(2000))  # 8 MB of rows


def flood() -> dict[str, int]:
    """Send all requests at once; collect the replies only when told to."""
    hear(GOOD)
    frames = [frame(LOOKUP, n + 1, lookup_payload(0, VALUES, training=0), trainer=1) for n in range(REQUESTS)]
    requests = [WORLD.Isend([np.frombuffer(each, np.uint8), MPI.BYTE], SERVER, LOOKUP_TAG) for each in frames]
    wait_for("a reply that is not collected", lambda: WORLD.Iprobe(SERVER, LOOKUP_TAG + 100))
    tell(GOOD)
    wait_for("the word to go on", lambda: MPI.Request.Testall(requests) or WORLD.Iprobe(GOOD, tag=1))
    hear(GOOD)
    replies = [receive(LOOKUP_TAG) for _ in range(REQUESTS)]
    sequences = [int.from_bytes(reply[24:32], "little") for reply in replies]
    assert [code_of(reply) for reply in replies] == [0] * REQUESTS
    assert sequences == list(range(1, REQUESTS + 1))
    assert all(len(reply) >= 4 * 1024 * len(VALUES) for reply in replies)
    MPI.Request.Waitall(requests)
    return {"collected": len(replies)}


def resident_bytes() -> int:
    for process in psutil.process_iter(["name", "ppid"]):
        if process.info["ppid"] == os.getppid() and process.name().startswith(server_program().name[:15]):
            return int(process.memory_info().rss)
    raise AssertionError("the server was not found")


def ordinary() -> dict[str, Any]:
    worker = configured_worker(TABLE)
    ids = [np.array([id_of(TABLE, v) for v in VALUES], np.uint64)]
    offsets = [np.array([0, len(VALUES)], np.int64)]

    def step(batch: int) -> None:
        lookup = worker.lookup(batch, ids, offsets, training=True)
        worker.update(lookup, [np.ones((1, 1024), np.float32)], 1.0)

    step(0)
    step(1)
    before = resident_bytes()
    tell(FLOODING)
    hear(FLOODING)
    for batch in range(2, 20):
        step(batch)
    during, after = worker.stats()[0], resident_bytes()
    tell(FLOODING)
    flooding = hear(FLOODING)
    result = {"before": before, "after": after, "during": during, "flooding": flooding}
    result["stats"] = worker.stats()[0]
    worker.shutdown()
    return result


def main() -> None:
    if WORLD.Get_rank() == FLOODING:
        tell(GOOD, flood())
    else:
        Path(sys.argv[1]).write_text(json.dumps(ordinary()))


if __name__ == "__main__":
    main()
