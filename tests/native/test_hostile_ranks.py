"""Ranks of a real MPI job that send what they must not, or do not take what they asked for."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_mpi import run_job

from persia_core.embedding.server import server_program

pytestmark = pytest.mark.mpi

CODES = {
    1: "TRUNCATED", 2: "BAD_MAGIC", 3: "BAD_VERSION", 4: "TOO_LARGE", 5: "BAD_LENGTH", 6: "BAD_CHECKSUM",
    7: "UNKNOWN_TYPE", 8: "REPLAYED", 9: "MALFORMED", 19: "NOT_OUTSTANDING",
}  # fmt: skip
CHUNK = 64 << 20
FRAME_LIMIT = 70 << 20  # of each of 3 channels of 2 ranks
LIMIT = ["--max-buffered-bytes", str(2 * 3 * FRAME_LIMIT)]


def outcome(directory: Path, script: str) -> Any:
    """What the ordinary trainer wrote, beside one server with two threads and one rank that misbehaves."""
    result = directory / "result.json"
    path = str(Path(__file__).parent / script)
    job = run_job(
        directory, "-n", "1", str(server_program()), "--threads", "2", *LIMIT,
        ":", "-n", "2", sys.executable, "-m", "mpi4py", path, str(result), timeout=90,
    )  # fmt: skip
    assert job.returncode == 0, job.stdout + job.stderr
    return json.loads(result.read_text())


def test_what_is_no_request_is_refused_counted_and_changes_nothing(tmp_path: Path) -> None:
    result = outcome(tmp_path, "mpi_hostile.py")
    for what, expected, found in result["found"]:
        assert CODES.get(found, "OK") == CODES.get(expected, "OK"), what
    assert len(result["found"]) >= 20
    expected_errors = Counter(CODES[code] for _, code, _ in result["found"] if code)
    assert result["stats"]["errors"] == expected_errors
    assert result["meanwhile"] == result["before"], "a row has changed"
    assert result["after"] != result["before"], "the ordinary trainer goes on"
    assert result["stats"]["tables"]["t"]["rows"] == 1
    # One chunk of the unfinished frame is kept; of frames that claim too much, nothing was.
    assert result["during"]["buffered"]["bytes"] == CHUNK
    assert CHUNK <= result["stats"]["buffered"]["most_bytes"] < CHUNK + 100_000
    assert result["stats"]["buffered"]["bytes"] == 0
    assert result["stats"]["buffered"]["limit_bytes"] == 6 * FRAME_LIMIT


def test_a_rank_that_collects_no_replies_stops_only_itself(tmp_path: Path) -> None:
    result = outcome(tmp_path, "mpi_flood.py")
    reply = 4 * 1024 * 2000
    assert result["during"]["requests"]["UPDATE"] == 20, "the ordinary trainer goes on"
    assert result["during"]["requests"]["LOOKUP"] <= 20 + 1, "one request of the other was taken"
    assert reply <= result["during"]["buffered"]["bytes"] < 2 * reply
    assert result["during"]["buffered"]["most_bytes"] < 3 * reply
    assert result["after"] - result["before"] < 8 * reply, "300 replies would be 2.4 GB"
    # Nothing was lost: when the rank collects, it gets every reply, in order.
    assert result["flooding"] == {"collected": 300}
    assert result["stats"]["requests"]["LOOKUP"] == 20 + 300
    assert result["stats"]["errors"] == {}


def test_a_limit_that_is_too_small_for_the_job_is_named(tmp_path: Path) -> None:
    job = run_job(
        tmp_path, "-n", "1", str(server_program()), "--max-buffered-bytes", "1000000",
        ":", "-n", "1", sys.executable, "-c", "from mpi4py import MPI",
    )  # fmt: skip
    assert job.returncode != 0
    assert "--max-buffered-bytes must be at least 3145728 in a job of 2 ranks" in job.stderr
