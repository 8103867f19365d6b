"""Where this installation keeps its working files and its local platform."""

import os
from pathlib import Path


def persia_home() -> Path:
    """The directory of working files: `PERSIA_HOME`, else `.persia` in the current directory."""
    return Path(os.environ.get("PERSIA_HOME") or ".persia").absolute()


def work_dir() -> Path:
    """Scratch space of the stages (staged partitions, run directories)."""
    return persia_home() / "work"
