"""Measurements that need processes of their own: memory, and rows served over MPI."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import PROJECT
from benchmarks.sizes import FEATURES, Size
from persia_core.embedding.server import server_program
from persia_core.launch import mpi


@dataclass
class Outcome:
    """Figures, raw samples, and what has to be said about them."""

    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)


def memory(size: Size) -> Outcome:
    """Bytes per row beyond the payload, and growth when a full table is streamed through."""
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "memory.json"
        program = [sys.executable, "-m", "benchmarks.memory", str(result), *map(str, size.memory_rows)]
        subprocess.run(program, cwd=PROJECT, check=True)
        return Outcome(**json.loads(result.read_text(encoding="utf-8")))


def served(size: Size) -> Outcome:
    """A real job: one embedding server, and one client rank that looks up and updates."""
    settings = {
        "rows": max(size.table_rows),
        "samples": size.batch // FEATURES,
        "batches": size.served_batches,
        "rounds": size.rounds,
        "tries": size.tries,
    }
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "served.json"
        command = [
            str(Path(sys.executable).parent / "mpiexec"),
            *("-n", "1", str(server_program()), ":", "-n", "1", sys.executable, "-m", "benchmarks.served"),
            *(json.dumps(settings), str(result)),
        ]
        environment = {
            **os.environ,
            **mpi.MPI_ENVIRONMENT,
            "OMPI_MCA_btl_sm_backing_directory": directory,
        }
        subprocess.run(command, cwd=PROJECT, env=environment, check=True)
        return Outcome(**json.loads(result.read_text(encoding="utf-8")))
