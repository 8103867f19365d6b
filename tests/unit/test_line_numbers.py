"""Line numbers of splits, against a reader of splits written out byte by byte."""

import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persia_core.data import line_numbers
from persia_core.data.line_numbers import LineNumbers

TEXT = st.text("ab\n\r", max_size=40).map(str.encode)


def line_starts(data: bytes) -> list[int]:
    """The byte at which each line begins; CR LF ends one line."""
    starts, at = [0], 0
    while at < len(data):
        step = 2 if data[at : at + 2] == b"\r\n" else 1
        if data[at] in b"\r\n":
            starts.append(at + step)
        at += step
    return starts


@pytest.mark.parametrize("chunk", [1, 2, 3, 1 << 20])
@given(data=TEXT, blocks=st.lists(st.integers(0, 40), max_size=4))
def test_a_split_begins_with_the_first_line_after_its_first_byte(
    chunk: int, data: bytes, blocks: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_numbers, "_CHUNK", chunk)
        path = Path(directory) / "lines"
        path.write_bytes(data)
        numbers = LineNumbers("lines", path.open("rb"))
        for block in sorted(block for block in blocks if block < len(data)):
            before = sum(start <= block for start in line_starts(data)) if block else 0
            assert numbers.first_line(block) == before + 1
        numbers.close()


def test_a_block_beyond_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="no byte 9"):
        LineNumbers("lines", io.BytesIO(b"a\n")).first_line(9)
