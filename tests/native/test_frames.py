"""Bytes that are no proper request: an error reply, a count, and nothing else."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import PREFIX_BITS, id_of, make_table

import persia_core._native

native: Any = persia_core._native  # the server for tests is no part of the documented interface

CONFIGURE, LOOKUP, UPDATE, DISCARD, SAVE, LOAD, STATS, SHUTDOWN, OK, ERROR = *range(1, 9), 128, 129
TABLE = make_table("t", 1, 2)


def frame(type: int, sequence: int, payload: bytes = b"", *, trainer: int = 0, channel: int = 0) -> bytes:
    """A frame, written from docs/formats/wire.md and the xxhash package alone."""
    start = struct.pack("<4sHHIIIIQQ", b"PRSA", 3, type, 0, trainer, channel, 0, sequence, len(payload))
    return start + struct.pack("<Q", xxhash.xxh64(start + payload, seed=0).intdigest()) + payload


def configure_payload(trainers: int = 1, staleness: int = 4, combine: bool = False, values: int = 0) -> bytes:
    header = struct.pack("<IIIIIIQI", 0, 1, trainers, staleness, int(combine), 1, 5, values)
    table = struct.pack("<I", 1) + b"t" + struct.pack("<IIII", 1, PREFIX_BITS, 2, 0)
    optimizer = struct.pack("<Iddd", 0, 0.5, 0.0, 0.0)
    initializer = struct.pack("<Idd", 1, -0.5, 0.25)
    admission = struct.pack("<I", 0)
    return header + table + optimizer + initializer + admission + struct.pack("<QQII", 100, 0, 0, 0)


def lookup_payload(batch: int, values: list[int], training: int = 1) -> bytes:
    ids = [id_of(TABLE, v) for v in values]
    return struct.pack(f"<QIIIIQ{len(ids)}Q", batch, training, 1, 0, 0, len(ids), *ids)


def update_payload(batch: int, values: list[int], gradients: list[float], factor: float = 1.0) -> bytes:
    ids = [id_of(TABLE, v) for v in values]
    head = struct.pack(f"<QIIIIdQ{len(ids)}Q", batch, 1, 0, 0, 2, factor, len(ids), *ids)
    return head + np.array(gradients, np.float32).tobytes()


def reply_of(server: Any, request: bytes) -> tuple[int, bytes]:
    """Type and payload of the one reply, whose frame is checked."""
    (reply,) = server.handle(request)
    kind, size = struct.unpack_from("<H", reply, 6)[0], struct.unpack_from("<Q", reply, 32)[0]
    assert reply[:4] == b"PRSA"
    assert len(reply) == 48 + size
    assert struct.unpack_from("<Q", reply, 40)[0] == xxhash.xxh64(reply[:40] + reply[48:], seed=0).intdigest()
    return kind, reply[48:]


def error_code(server: Any, request: bytes) -> int | None:
    kind, payload = reply_of(server, request)
    return struct.unpack_from("<I", payload)[0] if kind == ERROR else None


class Client:
    """A server and the next sequence number."""

    def __init__(self, **options: Any) -> None:
        self.server = native.InProcessServer(0)
        self.sequence = 0
        assert self.send(CONFIGURE, configure_payload(**options)) is None

    def send(self, type: int, payload: bytes = b"") -> int | None:
        self.sequence += 1
        return error_code(self.server, frame(type, self.sequence, payload))

    def rows(self, values: list[int]) -> bytes:
        self.sequence += 1
        return reply_of(self.server, frame(LOOKUP, self.sequence, lookup_payload(0, values, training=0)))[1]

    def counters(self) -> dict[str, int]:
        self.sequence += 1
        payload = reply_of(self.server, frame(STATS, self.sequence))[1]
        (count,), at, result = struct.unpack_from("<I", payload), 4, {}
        for _ in range(count):
            (size,) = struct.unpack_from("<I", payload, at)
            name = payload[at + 4 : at + 4 + size].decode()
            (result[name],) = struct.unpack_from("<Q", payload, at + 4 + size)
            at += 12 + size
        assert at == len(payload)
        return result


def test_the_documented_bytes_are_understood() -> None:
    client = Client()
    assert client.send(LOOKUP, lookup_payload(1, [5, 6])) is None
    before = np.frombuffer(client.rows([5, 6])[32:48], np.float32)
    # The gradients of id 5 are summed; id 77 has no row: its gradient is counted, and shifts nothing.
    assert client.send(UPDATE, update_payload(1, [5, 77, 5, 6], [1, 2, 9, 9, 3, 4, 5, 6])) is None
    after = np.frombuffer(client.rows([5, 6])[32:48], np.float32)
    np.testing.assert_allclose(before - after, [2, 3, 2.5, 3], rtol=1e-6)
    counters = client.counters()
    assert counters["tables.t.updates"] == 2
    assert counters["tables.t.updates_missing"] == 1
    assert counters["tables.t.rows"] == 2


def test_a_save_on_a_snapshot_is_begun_and_asked_for(tmp_path: Path) -> None:
    begin, finish = 10, 11
    client = Client()
    assert client.send(LOOKUP, lookup_payload(1, [5, 6])) is None
    assert client.send(DISCARD, struct.pack("<Q", 1)) is None
    assert client.send(finish, struct.pack("<I", 0)) == 30  # NO_SAVE
    path = str(tmp_path).encode()
    assert client.send(begin, struct.pack("<I", len(path)) + path + bytes(12)) is None
    while True:
        client.sequence += 1
        request = frame(finish, client.sequence, struct.pack("<I", 0))
        kind, payload = reply_of(client.server, request)
        assert kind == OK
        done, rows, size, length = struct.unpack_from("<IQQI", payload)
        if done:
            break
        assert payload == bytes(24)
    assert (rows, payload[24:]) == (2, b"embedding-0.safetensors")
    assert length == len(payload) - 24
    assert size == (tmp_path / "embedding-0.safetensors").stat().st_size
    assert client.send(finish, struct.pack("<I", 1)) is None  # give up
    assert client.send(finish, struct.pack("<I", 0)) == 30
    assert client.send(finish, struct.pack("<I", 2)) == 9  # MALFORMED


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_header_byte_is_an_error(mask: int) -> None:
    client = Client()
    good = frame(LOOKUP, 1000, lookup_payload(1, [5]))
    for at in range(len(good)):
        damaged = bytearray(good)
        damaged[at] ^= mask
        assert error_code(client.server, bytes(damaged)) is not None, at
    counters = client.counters()
    assert sum(n for name, n in counters.items() if name.startswith("errors.")) == len(good)
    assert counters["tables.t.rows"] == 0
    assert error_code(client.server, good) is None


def test_wrong_frames_have_their_own_errors() -> None:
    client = Client()
    good = frame(LOOKUP, 1000, lookup_payload(1, [5]))
    codes = {
        "TRUNCATED": [good[:-1], good[:47], b""],
        "BAD_LENGTH": [good + b"\0"],
        "BAD_MAGIC": [b"HTTP" + good[4:]],
        "BAD_VERSION": [good[:4] + b"\1" + good[5:]],
        "BAD_CHECKSUM": [good[:40] + bytes(8) + good[48:]],
        "TOO_LARGE": [good[:32] + struct.pack("<Q", 1 << 62) + good[40:]],
        "UNKNOWN_TYPE": [frame(99, 1000), frame(OK, 1000)],
        "UNKNOWN_TRAINER": [frame(STATS, 1000, trainer=1)],
        "REPLAYED": [frame(STATS, 1), frame(STATS, 0)],
        "MALFORMED": [frame(STATS, 999, channel=9), frame(STATS, 999, b"x")],
        "NOT_FINITE": [frame(UPDATE, 1001, update_payload(1, [5], [1.0, float("nan")]))],
    }
    assert error_code(client.server, frame(LOOKUP, 998, lookup_payload(1, [5]))) is None
    client.sequence = 2000
    rows = client.rows([5])
    client = Client()
    assert client.send(LOOKUP, lookup_payload(1, [5])) is None
    for frames in codes.values():
        for bad in frames:
            assert error_code(client.server, bad) is not None
    client.sequence = 2000
    assert client.rows([5]) == rows
    errors = {name: n for name, n in client.counters().items() if name.startswith("errors.")}
    assert errors == {f"errors.{name}": len(frames) for name, frames in codes.items()}


def test_a_replayed_update_is_applied_once() -> None:
    client = Client()
    client.send(LOOKUP, lookup_payload(1, [5]))
    update = frame(UPDATE, 100, update_payload(1, [5], [1, 1]))
    assert error_code(client.server, update) is None
    client.sequence = 100
    rows = client.rows([5])
    assert error_code(client.server, update) == 8
    assert client.rows([5]) == rows


@settings(max_examples=300, deadline=None)
@given(type=st.sampled_from([*range(1, 8), 9]), payload=st.binary(max_size=120), good=st.booleans())
def test_random_payloads_never_break_a_server(type: int, payload: bytes, good: bool) -> None:
    client = Client()
    client.send(LOOKUP, lookup_payload(1, [5]))
    rows = client.rows([5])
    valid = {
        LOOKUP: lookup_payload(2, [5, 6]),
        UPDATE: update_payload(2, [5], [1, 1]),
        CONFIGURE: configure_payload(),
    }
    client.send(type, valid.get(type, b"")[: len(payload)] + payload if good else payload)
    assert client.rows([5]) == rows
