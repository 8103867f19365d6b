"""Ranks of test_hostile_ranks.py: rank 1 sends what is no proper request, rank 2 is an ordinary trainer."""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from mpi_ranks import (
    CHUNK,
    CONTROL_TAG,
    LOOKUP_TAG,
    SERVER,
    UPDATE_TAG,
    WORLD,
    code_of,
    configured_worker,
    hear,
    receive,
    send,
    send_chunks,
    tell,
)
from reference import id_of
from test_frames import LOOKUP, OK, STATS, TABLE, UPDATE, frame, lookup_payload, update_payload

HOSTILE, GOOD = 1, 2
keep: list[object] = []  # what MPI may still read
TOO_LARGE, BAD_LENGTH, BAD_CHECKSUM, UNKNOWN_TYPE, REPLAYED, MALFORMED = 4, 5, 6, 7, 8, 9
TRUNCATED, BAD_MAGIC, BAD_VERSION, NOT_OUTSTANDING = 1, 2, 3, 19


def claiming(payload_bytes: int, sequence: int) -> bytes:
    """The header of a STATS request on the lookup channel whose payload is said to be that large."""
    good = frame(STATS, sequence, trainer=1)
    return good[:32] + struct.pack("<Q", payload_bytes) + good[40:]


def hostile() -> list[tuple[str, int, int]]:
    """What was sent, the code that had to come, the code that came."""
    found: list[tuple[str, int, int]] = []
    good = frame(LOOKUP, 10, lookup_payload(1, [5]), trainer=1)

    def expect(what: str, code: int, message: bytes, tag: int = LOOKUP_TAG) -> None:
        send_chunks(tag, message)
        found.append((what, code, code_of(receive(tag))))

    expect("empty", TRUNCATED, b"")
    expect("half a header", TRUNCATED, good[:30])
    expect("a frame without its end", TRUNCATED, good[:-1])
    expect("a frame and more", BAD_LENGTH, good + b"\0")
    expect("another protocol", BAD_MAGIC, b"HTTP" + good[4:])
    expect("another version", BAD_VERSION, good[:4] + b"\xff\x7f" + good[6:])
    expect("a flipped bit", BAD_CHECKSUM, good[:-1] + bytes([good[-1] ^ 1]))
    expect("a reply", UNKNOWN_TYPE, frame(OK, 11, trainer=1))
    expect("a claim beyond the protocol", TOO_LARGE, claiming(1 << 62, 12))
    expect("a claim beyond the limit", TOO_LARGE, claiming(200 << 20, 12))
    large = frame(STATS, 13, bytes(200 << 20), trainer=1)
    expect("a whole frame beyond the limit", TOO_LARGE, large)
    expect("the channel of another tag", MALFORMED, frame(STATS, 14, trainer=1, channel=2))
    expect("an update on the lookup tag", MALFORMED, frame(UPDATE, 14, trainer=1, channel=1))
    expect("a tag beside the channels", MALFORMED, good, tag=7103)
    expect("any tag", MALFORMED, good, tag=9)
    update = frame(UPDATE, 15, update_payload(1, [5], [1.0, 1.0]), trainer=1, channel=1)
    expect("an update of no lookup", NOT_OUTSTANDING, update, tag=UPDATE_TAG)
    expect("the same again", REPLAYED, update, tag=UPDATE_TAG)
    expect("statistics", 0, frame(STATS, 16, trainer=1, channel=2), tag=CONTROL_TAG)

    # A frame of two chunks, of which one comes: the server is to keep it and to serve the others.
    send(LOOKUP_TAG, (frame(STATS, 17, bytes(CHUNK + 1000), trainer=1))[:CHUNK])
    tell(GOOD)
    hear(GOOD)
    expect("a new frame where a chunk was due", TRUNCATED, frame(STATS, 18, trainer=1))
    expect("statistics once more", 0, frame(STATS, 19, trainer=1))

    # Such a message is answered and never taken: its sender has to keep it.
    stuck = np.zeros(CHUNK + 1, np.uint8)
    keep.append((stuck, WORLD.Isend([stuck, MPI.BYTE], SERVER, LOOKUP_TAG)))
    found.append(("a message larger than a chunk", TOO_LARGE, code_of(receive(LOOKUP_TAG))))
    expect("statistics on another channel", 0, frame(STATS, 20, trainer=1, channel=2), tag=CONTROL_TAG)
    return found


def ordinary() -> dict[str, Any]:
    worker = configured_worker(TABLE)
    ids, offsets = [np.array([id_of(TABLE, 5)], np.uint64)], [np.array([0, 1], np.int64)]

    def step(batch: int) -> list[float]:
        lookup = worker.lookup(batch, ids, offsets, training=True)
        worker.update(lookup, [np.ones((1, 2), np.float32)], 1.0)
        found: list[float] = worker.lookup(0, ids, offsets, training=False).pooled[0][0].tolist()
        return found

    before = step(0)
    tell(HOSTILE)
    hear(HOSTILE)
    meanwhile = {"stats": worker.stats()[0], "rows": worker.lookup(0, ids, offsets, training=False).pooled[0]}
    after = step(1)
    tell(HOSTILE)
    found = hear(HOSTILE)
    result = {
        "before": before, "meanwhile": meanwhile["rows"][0].tolist(), "after": after, "found": found,
        "during": meanwhile["stats"], "stats": worker.stats()[0],
    }  # fmt: skip
    worker.shutdown()
    return result


def main() -> None:
    if MPI.COMM_WORLD.Get_rank() == HOSTILE:
        hear(GOOD)
        tell(GOOD, hostile())
    else:
        Path(sys.argv[1]).write_text(json.dumps(ordinary()))


if __name__ == "__main__":
    main()
