"""The two ranks of test_mpi_line.py: rank 0 sends and waits, rank 1 says what has come."""

import json
import sys
import threading
import time
from pathlib import Path

import mpi4py

mpi4py.rc.thread_level = "multiple"

import numpy as np  # noqa: E402 - after the level of threads has been chosen
from mpi4py import MPI  # noqa: E402

from persia_core.embedding.remote.line import LineClosed  # noqa: E402
from persia_core.embedding.remote.message import Message, MessageError  # noqa: E402
from persia_core.embedding.remote.mpi_line import BATCHES_TAG, CONTROL_TAG, MpiLine  # noqa: E402
from persia_core.errors import RankHung  # noqa: E402

THREADS, EACH, LIMIT = 3, 40, 60.0
LARGE = (65 << 20) // 8  # elements: more than one MPI message


def numbers(thread: int, number: int) -> list[np.ndarray]:
    """The arrays of a message: a function of who sent it."""
    size = LARGE if (thread, number) == (1, 7) else 1000 * (number % 5)
    start = 1000 * thread + number
    return [np.arange(start, start + size, dtype=np.int64), np.full((number % 3, 2), start, np.float32)]


def say(line: MpiLine, thread: int) -> None:
    for number in range(EACH):
        fields = {"thread": thread, "number": number}
        line.send(Message("numbers", fields, numbers(thread, number)), LIMIT)


def asking(result: Path) -> None:
    batches, control = MpiLine(1, BATCHES_TAG, "the other"), MpiLine(1, CONTROL_TAG, "the other")
    threads = [threading.Thread(target=say, args=(batches, thread)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = control.receive("what has come", LIMIT).fields

    start, before = time.monotonic(), time.process_time()
    try:
        control.receive("nothing", 3.0)
    except RankHung as error:
        found["hung"] = error.what
    found["share_of_a_core"] = (time.process_time() - before) / (time.monotonic() - start)
    closed = threading.Event()
    threading.Timer(0.1, closed.set).start()
    try:
        control.receive("nothing", LIMIT, closed)
    except LineClosed:
        found["closed"] = True

    batches.send(Message("go on"), LIMIT)
    try:
        control.receive("numbers", LIMIT)
    except MessageError as error:
        found["wrong_size"] = str(error)
    try:
        batches.send(Message("numbers", {}, [np.zeros(LARGE, np.int64)]), 0.2)  # nobody takes it in time
    except RankHung as error:
        found["not_taken"] = error.what
    MPI.COMM_WORLD.Isend([b"", MPI.BYTE], 1, 1).Wait()
    control.receive("the end", LIMIT)
    result.write_text(json.dumps(found))


def answering() -> None:
    batches, control = MpiLine(0, BATCHES_TAG, "the other"), MpiLine(0, CONTROL_TAG, "the other")
    next_of = [0] * THREADS
    wrong = 0
    for _ in range(THREADS * EACH):
        message = batches.receive("numbers", LIMIT)
        thread, number = message.fields["thread"], message.fields["number"]
        wrong += number != next_of[thread]
        next_of[thread] = number + 1
        expected = numbers(thread, number)
        wrong += not all(np.array_equal(a, b) for a, b in zip(message.arrays, expected, strict=True))
    control.send(Message("come", {"wrong": wrong, "of_threads": next_of}), LIMIT)

    batches.receive("a word to go on", LIMIT)
    head = Message("numbers", {}, [np.zeros(4, np.float32)]).head()
    for piece in (head, np.zeros(8, np.uint8)):
        MPI.COMM_WORLD.Isend([piece, MPI.BYTE], 0, CONTROL_TAG).Wait()
    while not MPI.COMM_WORLD.Iprobe(0, 1):
        time.sleep(0.01)
    batches.receive("what was not taken in time", LIMIT)
    control.send(Message("end"), LIMIT)


if __name__ == "__main__":
    if MPI.COMM_WORLD.Get_rank() == 0:
        asking(Path(sys.argv[1]))
    else:
        answering()
