"""Messages between a trainer and its embedding worker: what is sent comes, and nothing else is taken."""

import json
import struct

import numpy as np
import pytest

from persia_core.embedding.remote.message import Message, MessageError


def there_and_back(message: Message) -> Message:
    received = Message.from_head(message.head().tobytes())
    for buffer, sent in zip(received.contents(), message.contents(), strict=True):
        buffer[:] = sent
    return received


def test_a_message_comes_as_it_was_sent() -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal((3, 4)).astype(np.float32),
        np.empty((0, 7), np.float32),
        np.array([2**64 - 1, 0], np.uint64),
        np.array([-1], np.int64),
        rng.standard_normal((2, 1, 5)).astype(np.float16),
        np.empty(0, np.uint64),
    ]
    fields = {"text": "ä", "scale": 1 / 3, "factors": [0.1, 5e-324], "none": None}
    found = there_and_back(Message("update", fields, arrays))
    assert (found.kind, found.fields) == ("update", fields)
    for received, sent in zip(found.arrays, arrays, strict=True):
        assert received.dtype == sent.dtype
        np.testing.assert_array_equal(received, sent)
        assert received.flags.writeable and received.flags.c_contiguous


def test_contents_are_the_arrays_own_bytes() -> None:
    array = np.zeros((2, 3), np.float32)
    (content,) = Message("x", arrays=[array]).contents()
    assert np.shares_memory(content, array)


def head_of(document: object) -> bytes:
    text = json.dumps(document).encode()
    return struct.pack("<4sHHI", b"PRSW", 1, 0, len(text)) + text


GOOD = {"kind": "x", "fields": {}, "arrays": [["<f4", [2, 3]]]}


def test_the_layout_is_that_of_the_page() -> None:
    assert Message.from_head(head_of(GOOD)).arrays[0].shape == (2, 3)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        head_of(GOOD)[:11],
        head_of(GOOD)[:-1],
        head_of(GOOD) + b" ",
        b"PRSA" + head_of(GOOD)[4:],
        head_of(GOOD)[:4] + b"\2\0" + head_of(GOOD)[6:],
        head_of(GOOD)[:6] + b"\1\0" + head_of(GOOD)[8:],
        head_of([]),
        head_of({**GOOD, "kind": 1}),
        head_of({**GOOD, "fields": None}),
        head_of({**GOOD, "arrays": [["|O", [1]]]}),
        head_of({**GOOD, "arrays": [["<f4", [-1]]]}),
        head_of({**GOOD, "arrays": [["<f4", [1.5]]]}),
        head_of({**GOOD, "arrays": [["<f4", [1 << 20, 1 << 20]]]}),
        head_of({**GOOD, "arrays": [["<f4"]]}),
        head_of({"kind": "x"}),
        struct.pack("<4sHHI", b"PRSW", 1, 0, 1) + b"\xff",
    ],
)
def test_what_is_no_head_is_refused(head: bytes) -> None:
    with pytest.raises(MessageError):
        Message.from_head(head)


def test_what_is_not_contiguous_is_refused_rather_than_sent_in_another_order() -> None:
    with pytest.raises(MessageError, match="not contiguous"):
        Message("x", arrays=[np.zeros((4, 4), np.float32).T[1:]]).contents()
