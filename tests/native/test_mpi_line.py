"""Messages between two Python ranks of a real MPI job."""

import json
import sys
from pathlib import Path

import pytest
from test_mpi import run_job

pytestmark = pytest.mark.mpi


def test_messages_come_whole_in_order_and_waiting_has_an_end(tmp_path: Path) -> None:
    script, result = Path(__file__).parent / "mpi_line_ranks.py", tmp_path / "result.json"
    job = run_job(tmp_path, "-n", "2", sys.executable, str(script), str(result), timeout=180)
    assert result.exists(), job.stdout + job.stderr
    found = json.loads(result.read_text())
    assert found["wrong"] == 0
    assert found["of_threads"] == [40, 40, 40]
    assert found["hung"] == "the other (rank 1): nothing: no answer within 3 s"
    assert found["closed"]
    assert found["wrong_size"] == "the other (rank 1) sent 8 bytes where 16 were due"
    assert found["not_taken"] == "the other (rank 1): numbers: no answer within 0.2 s"
    # A rank that waits inside MPI uses all of a core; a busy machine only makes the share less.
    assert found["share_of_a_core"] < 0.3
