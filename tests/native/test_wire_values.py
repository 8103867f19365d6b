"""Rows and gradients in 16 bits on the wire, against NumPy's own rounding as docs/formats/wire.md says."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeWorker
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import id_of, initial_row, make_table
from safetensors.numpy import load_file
from test_frames import LOOKUP, UPDATE, Client, lookup_payload, update_payload

from persia_core import _native

MALFORMED, NOT_FINITE = 9, 16
MOST = float(np.finfo(np.float32).max)
LEAST = float(np.nextafter(np.float32(0), np.float32(1)))  # 2^-149
NARROW = ["bfloat16", "float16"]
CODES = {"float32": 0, "bfloat16": 1, "float16": 2}


def scale_of(row: NDArray[np.float32]) -> float:
    """The scale of a float16 row, by the formula of the page, in Python's own arithmetic."""
    finite = [abs(float(value)) for value in row if np.isfinite(value)]
    most = max(finite, default=0.0)
    if most == 0.0:
        return 2.0**-125
    mantissa, exponent = math.frexp(most)  # [0.5, 1)
    rounded = round(mantissa * 2048) / 2048 * 2.0**exponent  # to 11 bits; halves to the even one
    top = math.frexp(rounded)[1] - 1
    return float(2.0 ** min(max(top - 14, -125), 113))


def halves(row: NDArray[np.float32]) -> NDArray[np.float16]:
    """The binary16 numbers of a row; its magnitudes stay below 2^15."""
    with np.errstate(invalid="ignore"):
        exact = row.astype(np.float64) / scale_of(row)
        rounded = exact.astype(np.float16)  # to nearest, to the even one of two
    finite = np.isfinite(row)
    largest = np.float16(32752)
    return np.where(finite, np.clip(rounded, -largest, largest), rounded)


def travelled(row: NDArray[np.float32], values: str) -> NDArray[np.float32]:
    """What the other side makes of a row."""
    if values == "float16":
        return (halves(row).astype(np.float64) * scale_of(row)).astype(np.float32)
    bits = row.view(np.uint32).astype(np.uint64)
    magnitude = bits & 0x7FFFFFFF
    rounded = (magnitude + 0x7FFF + ((magnitude >> 16) & 1)) >> 16
    kept = np.where(magnitude < 0x7F800000, np.minimum(rounded, 0x7F7F), magnitude >> 16)
    return ((((bits >> 31) << 15) | kept) << 16).astype(np.uint32).view(np.float32)


FLOATS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-(2**13), 2**13).map(lambda n: n * LEAST),
    st.floats(-2, 2, width=32),
    st.sampled_from([0.0, -0.0, MOST, -MOST, 65504.0, 65520.0, 2047.5, 4095.0, LEAST, 1 + 2**-11, 1 + 2**-8]),
)


@pytest.mark.parametrize("values", NARROW)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(FLOATS, min_size=5, max_size=5), min_size=1, max_size=4))
@example(
    rows=[[MOST, 1.0, MOST / 2, -MOST, LEAST], [0.0] * 5, [-0.0] * 5, [LEAST, -LEAST, 0.0, 0.0, 3 * LEAST]]
)
@example(rows=[[2.0**-111, 2.0**-149, 2.0**-125, 2.0**-126, 0.0], [2047.5, 2046.5, 1.0, 0.5, 2.0**-14]])
def test_rows_travel_as_the_page_says(make_worker: MakeWorker, values: str, rows: list[list[float]]) -> None:
    """A step of SGD from zeros makes the row minus the gradient; what has travelled travels on unchanged."""
    table = make_table(
        "t", 1, 5, optimizer={"kind": "sgd", "learning_rate": 1.0}, initializer={"kind": "zeros"}
    )
    worker = make_worker(tables=[table], wire_values=values, servers=2)
    ids = [np.array([id_of(table, value) for value in range(len(rows))], np.uint64)]
    offsets = [np.arange(len(rows) + 1, dtype=np.int64)]
    gradient = np.array(rows, np.float32)
    worker.update(worker.lookup(0, ids, offsets, training=True), [gradient], 1.0)
    found = worker.lookup(0, ids, offsets, training=False).pooled[0]
    assert np.isfinite(found).all()
    for row, came in zip(gradient, found, strict=True):
        np.testing.assert_array_equal(came, -travelled(row, values))
        np.testing.assert_array_equal(travelled(came, values), came)


@pytest.mark.parametrize("values", ["float32", *NARROW])
def test_servers_keep_float32(make_worker: MakeWorker, tmp_path: Path, values: str) -> None:
    table = make_table("t", 1, 3)
    worker = make_worker(tables=[table], wire_values=values)
    ids, offsets = [np.array([id_of(table, v) for v in range(9)], np.uint64)], [np.arange(10, dtype=np.int64)]
    found = worker.lookup(0, ids, offsets, training=True)
    initial = np.stack([initial_row(table, 5, int(each)) for each in ids[0]])
    expected = initial if values == "float32" else np.stack([travelled(row, values) for row in initial])
    np.testing.assert_array_equal(found.pooled[0], expected)
    assert values == "float32" or (found.pooled[0] != initial).any()
    worker.discard(found)
    worker.save(str(tmp_path))
    saved = load_file(tmp_path / "embedding-0.safetensors")
    np.testing.assert_array_equal(saved["t.weights"], initial)


@pytest.mark.parametrize("values", NARROW)
def test_missing_rows_and_several_tables_travel(make_worker: MakeWorker, values: str) -> None:
    tables = [make_table("a", 1, 3), make_table("b", 2, 1), make_table("c", 3, 4)]
    worker = make_worker(tables=tables, wire_values=values, servers=3)
    known = [np.array([id_of(table, value) for value in range(0, 20, 2)], np.uint64) for table in tables]
    worker.discard(worker.lookup(0, known, [np.arange(11, dtype=np.int64)] * 3, training=True))
    ids = [np.array([id_of(table, value) for value in range(20)], np.uint64) for table in tables]
    found = worker.lookup(0, ids, [np.arange(21, dtype=np.int64)] * 3, training=False)
    assert found.missing_ids == 30
    for table, pooled in zip(tables, found.pooled, strict=True):
        for value in range(20):
            row = initial_row(table, 5, id_of(table, value))
            np.testing.assert_array_equal(
                pooled[value], travelled(row, values) if value % 2 == 0 else np.zeros_like(row)
            )


def test_a_diverged_row_is_not_mended_on_its_way(make_worker: MakeWorker) -> None:
    table = make_table("t", 1, 2, optimizer={"kind": "sgd", "learning_rate": 1e30})
    ids, offsets = [np.array([id_of(table, 1)], np.uint64)], [np.array([0, 1], np.int64)]
    for values in NARROW:
        worker = make_worker(tables=[table], wire_values=values)
        gradient = np.array([[1e30, 0.0]], np.float32)
        worker.update(worker.lookup(0, ids, offsets, training=True), [gradient], 1.0)
        row = np.array([-np.inf, initial_row(table, 5, id_of(table, 1))[1]], np.float32)
        found = worker.lookup(0, ids, offsets, training=False).pooled[0][0]
        np.testing.assert_array_equal(found, travelled(row, values))
        assert found[0] == -np.inf and np.isfinite(found[1]) and found[1] != 0


def test_workers_that_disagree_are_refused(make_worker: MakeWorker) -> None:
    table = make_table("t", 1, 2)
    common = {"tables": [table], "transport": "in-process:disagree", "trainers": 2}
    first = make_worker(**common, wire_values="float16")
    other = make_worker(**common, trainer=1, wire_values="bfloat16", configure=False)
    ids, offsets = [np.array([id_of(table, 1)], np.uint64)], [np.array([0, 1], np.int64)]
    with pytest.raises(_native.TransportError, match="values are float16, and this worker wants bfloat16"):
        other.lookup(0, ids, offsets, training=False)
    with pytest.raises(_native.ServerError, match="BAD_CONFIG"):
        other.configure()
    first.update(first.lookup(0, ids, offsets, training=True), [np.ones((1, 2), np.float32)], 1.0)
    with pytest.raises(ValueError, match="unknown wire_values float8"):
        make_worker(tables=[table], wire_values="float8")


def narrow_update(batch: int, values: list[int], rows: list[tuple[float, list[int]]]) -> bytes:
    """An UPDATE in float16: scale and the bits of each element."""
    head = bytearray(update_payload(batch, values, []))
    struct.pack_into("<I", head, 12, 2)
    return bytes(head) + b"".join(struct.pack(f"<f{len(bits)}H", scale, *bits) for scale, bits in rows)


def test_the_documented_bytes_of_float16_are_understood() -> None:
    client = Client(values=2)
    assert client.send(LOOKUP, lookup_payload(1, [5, 6])) is None
    reply = client.rows([5, 6])
    assert struct.unpack_from("<II", reply) == (1, 2)
    assert len(reply) == 8 + 24 + 2 * (4 + 2 * 2)
    before = reply[32:]
    bits = [int(np.float16(value).view(np.uint16)) for value in (8192, -16384)]
    assert client.send(UPDATE, narrow_update(1, [5], [(2.0**-13, bits)])) is None  # 1 and -2
    after = client.rows([5, 6])[32:]
    assert after[8:] == before[8:]

    def row(data: bytes) -> NDArray[np.float32]:
        (scale,) = struct.unpack_from("<f", data)
        return np.float32(scale) * np.frombuffer(data, np.float16, 2, 4).astype(np.float32)

    np.testing.assert_allclose(row(before) - row(after), [0.5, -1.0], atol=2e-3)


TOP = int(np.float16(2**14).view(np.uint16))
ABOVE = int(np.float16(2**15).view(np.uint16))
INFINITE, NAN, OTHER_NAN = 0x7C00, 0x7E00, 0x7E01


@pytest.mark.parametrize(
    ("scale", "bits", "code"),
    [
        (1.0, [TOP, 0], None),
        (2.0**-125, [1, 0], None),
        (2.0**-125, [0, 0], None),
        (2.0**113, [TOP, 1], None),
        (1.0, [TOP - 1, 0], MALFORMED),  # a smaller scale belongs to it
        (1.0, [0, 0], MALFORMED),
        (1.0, [ABOVE, 0], MALFORMED),
        (1.0, [ABOVE - 1, 0x8000 | (ABOVE - 1)], None),
        (2.0**-126, [TOP, 0], MALFORMED),
        (2.0**114, [TOP, 0], MALFORMED),
        (1.5, [TOP, 0], MALFORMED),
        (0.0, [0, 0], MALFORMED),
        (-1.0, [TOP, 0], MALFORMED),
        (math.inf, [TOP, 0], MALFORMED),
        (math.nan, [TOP, 0], MALFORMED),
        (1.0, [TOP, OTHER_NAN], MALFORMED),
        (1.0, [TOP, 0x8000 | NAN], MALFORMED),
        (1.0, [TOP, NAN], NOT_FINITE),
        (1.0, [TOP, INFINITE], NOT_FINITE),
        (1.0, [TOP, 0x8000 | INFINITE], NOT_FINITE),
        (2.0**-125, [INFINITE, NAN], NOT_FINITE),
        (1.0, [INFINITE, NAN], MALFORMED),
        (1.0, [TOP], MALFORMED),
        (1.0, [TOP, 0, 0], MALFORMED),
    ],
)
def test_a_row_has_one_spelling(scale: float, bits: list[int], code: int | None) -> None:
    client = Client(values=2)
    assert client.send(LOOKUP, lookup_payload(1, [5])) is None
    rows = client.rows([5])
    assert client.send(UPDATE, narrow_update(1, [5], [(scale, bits)])) == code
    assert client.counters()["step"] == (code is None)
    if code is not None:
        assert client.rows([5]) == rows


@pytest.mark.parametrize("values", CODES.values())
def test_values_of_another_type_than_configured_are_refused(values: int) -> None:
    client = Client(values=values)
    assert client.send(LOOKUP, lookup_payload(1, [5])) is None
    rows = client.rows([5])
    of_type = {
        0: struct.pack("<ff", 1, 1),
        1: struct.pack("<HH", 0x3F80, 0x3F80),
        2: struct.pack("<fHH", 1, TOP, TOP),
        3: struct.pack("<ff", 1, 1),
    }
    for other, data in of_type.items():
        head = bytearray(update_payload(1, [5], []))
        struct.pack_into("<I", head, 12, other)
        assert client.send(UPDATE, bytes(head) + data) == (None if other == values else MALFORMED)
        if other < values:
            assert client.rows([5]) == rows
    assert client.counters()["tables.t.updates"] == 1
