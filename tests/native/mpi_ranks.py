"""For tests whose trainer ranks speak MPI themselves: raw requests to the server on rank 0."""

import time
from typing import Any

import numpy as np
from mpi4py import MPI
from test_frames import ERROR

from persia_core import _native

WORLD = MPI.COMM_WORLD
SERVER = 0
CHUNK = 64 << 20
LOOKUP_TAG, UPDATE_TAG, CONTROL_TAG = 7100, 7101, 7102
REPLY = 100  # a reply's tag is so much above its request's


def wait_for(what: str, ready: Any) -> None:
    """Poll, so that MPI makes progress and a defect ends the test instead of hanging it."""
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not happen within a minute"
        time.sleep(0.001)


def send(tag: int, message: bytes) -> None:
    request = WORLD.Isend([np.frombuffer(message, np.uint8), MPI.BYTE], SERVER, tag)
    wait_for(f"sending {len(message)} bytes", request.Test)


def send_chunks(tag: int, frame: bytes) -> None:
    for at in range(0, max(len(frame), 1), CHUNK):
        send(tag, frame[at : at + CHUNK])


def receive(tag: int) -> bytes:
    """The message that answers a request of `tag`."""
    wait_for(f"a reply to tag {tag}", lambda: WORLD.Iprobe(SERVER, tag + REPLY))
    status = MPI.Status()
    WORLD.Probe(SERVER, tag + REPLY, status)
    reply = np.empty(status.Get_count(MPI.BYTE), np.uint8)
    WORLD.Recv([reply, MPI.BYTE], SERVER, tag + REPLY)
    return reply.tobytes()


def code_of(reply: bytes) -> int:
    """The error code of a reply, 0 if it is OK."""
    kind = int.from_bytes(reply[6:8], "little")
    return int.from_bytes(reply[48:52], "little") if kind == ERROR else 0


def tell(rank: int, what: object = None) -> None:
    WORLD.send(what, rank, tag=1)


def hear(rank: int) -> Any:
    wait_for(f"a word of rank {rank}", lambda: WORLD.Iprobe(rank, tag=1))
    return WORLD.recv(source=rank, tag=1)


def configured_worker(table: dict[str, Any]) -> _native.EmbeddingWorker:
    """An ordinary worker, of trainer 0 of two."""
    worker = _native.EmbeddingWorker(
        transport="mpi", servers=1, tables=[table], features=[0], trainer=0, trainers=2, staleness=2,
        combine=False, seed=5, timeout_s=60.0,
    )  # fmt: skip
    worker.configure()
    return worker
