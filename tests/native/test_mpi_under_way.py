"""Several requests of a channel on their way at once, between ranks of a real MPI job."""

import json
import sys
from pathlib import Path

import pytest
from test_mpi import run_job

from persia_core.embedding.server import server_program

pytestmark = pytest.mark.mpi
TRAINERS, STEPS, STALENESS = 2, 16, 4


def test_pipelines_over_mpi_read_what_the_bound_allows(tmp_path: Path) -> None:
    script = str(Path(__file__).parent / "mpi_under_way.py")
    job = run_job(
        tmp_path, "-n", "2", str(server_program()),
        ":", "-n", str(TRAINERS), sys.executable, "-m", "mpi4py", script, str(tmp_path), timeout=120,
    )  # fmt: skip
    assert job.returncode == 0, job.stdout + job.stderr
    for server in json.loads((tmp_path / "stats.json").read_text()):
        assert server["errors"] == {}
        assert server["requests"]["UPDATE"] == server["step"] == TRAINERS * (STEPS - 1)
        assert server["requests"]["DISCARD"] == TRAINERS
        assert 2 <= server["staleness"]["max"] <= STALENESS
        assert sum(server["staleness"]["histogram"].values()) == TRAINERS * (STEPS - 1)
