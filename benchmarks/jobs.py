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
from persia_core.launch.segments import environment_for


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
    return Outcome(**beside_a_server("benchmarks.served", settings, {}, []))


def beside_a_server(
    module: str, settings: dict[str, Any], environment: dict[str, str], options: list[str]
) -> dict[str, Any]:
    """What a rank that runs `module` leaves, beside one embedding server with `options` in an MPI job.

    Its arguments are the settings as JSON, and the path of the JSON document that it is to write.
    """
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "result.json"
        command = [
            str(Path(sys.executable).parent / "mpiexec"),
            *("-n", "1", str(server_program()), *options, ":"),
            *("-n", "1", sys.executable, "-m", module, json.dumps(settings), str(result)),
        ]
        of_the_job = {**mpi.MPI_ENVIRONMENT, **environment_for(Path(directory))}
        subprocess.run(command, cwd=PROJECT, env={**os.environ, **of_the_job, **environment}, check=True)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found
