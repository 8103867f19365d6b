"""Where servers have the rows of a cut in memory, a damaged header of its parts is found all the same."""

import re
from pathlib import Path

import pytest

from persia_core.checkpoint.cuts import CutReader, RunIdentity, newest_whole_cut
from persia_core.errors import Corrupt
from tests.integration.test_delta_cuts import CONFIG, CUTS, DS, HASHED, write_cuts
from tests.integration.test_training import changed


def flipped(part: Path, at: int) -> Path:
    data = bytearray(part.read_bytes())
    data[at] ^= 0x10
    part.write_bytes(data)
    return part


def test_a_flipped_header_is_found_where_the_rows_are_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir, _ = write_cuts(tmp_path, servers=2)
    base, middle, newest = (run_dir / "cuts" / str(step) for step in CUTS)

    def in_memory(_: Path) -> bool:
        return True

    for directory in (base, newest):
        part = directory / "embedding-1.safetensors"
        data = part.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        for at in (*range(8), *range(8, end, 37), end - 1):
            with pytest.raises(Corrupt, match=re.escape(f"{part} has another SHA-256")):
                CutReader(in_memory).whole(flipped(part, at).parent.with_name(newest.name))
            part.write_bytes(data)
        flipped(part, len(data) - 1)  # a row, which nobody is going to read
        CutReader(in_memory).whole(newest)
        part.write_bytes(data)
    part = flipped(newest / "embedding-1.safetensors", 100)
    identity = RunIdentity.of(changed(CONFIG, cluster={"servers": 2}), run_dir.name, DS, None, HASHED)
    cut = newest_whole_cut(run_dir, identity, in_memory)
    assert cut is not None and cut.directory == middle
    assert f"the cut at step {CUTS[-1]} is damaged: {part} has another SHA-256" in caplog.text
