"""A file in the store, read where it lies, beside the same bytes in memory."""

import io
import random
from pathlib import Path

import pytest

from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.ranges import open_stored


@pytest.mark.parametrize("buffer_bytes", [0, 1, 16, 1 << 20])
def test_reading_and_seeking_are_those_of_a_file(tmp_path: Path, buffer_bytes: int) -> None:
    rng = random.Random(5)
    data = rng.randbytes(1000)
    store = LocalStore(tmp_path)
    store.put("a/b", data)
    found, expected = open_stored(store, "a/b", len(data), buffer_bytes), io.BytesIO(data)
    for _ in range(300):
        if rng.random() < 0.5:
            whence = rng.choice([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END])
            offset = {io.SEEK_SET: rng.randrange(1100), io.SEEK_CUR: 0, io.SEEK_END: -rng.randrange(1001)}
            assert found.seek(offset[whence], whence) == expected.seek(offset[whence], whence)
        else:
            count = rng.choice([0, 1, 7, 300, 2000])
            assert found.read(count) == expected.read(count)
        assert found.tell() == expected.tell()
    found.seek(0)
    assert found.read() == data
