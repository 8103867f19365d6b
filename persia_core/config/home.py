"""Where this installation keeps its working files and its local platform."""

import os
from pathlib import Path


def project_dir() -> Path:
    """What configurations and templates are relative to: `PERSIA_PROJECT`, else the current directory."""
    return Path(os.environ.get("PERSIA_PROJECT") or Path.cwd()).absolute()


def persia_home(project: Path | None = None) -> Path:
    """The directory of working files: `PERSIA_HOME`, else `.persia` in `project` (the current directory)."""
    return ((project or Path()) / (os.environ.get("PERSIA_HOME") or ".persia")).absolute()


def work_dir(project: Path | None = None) -> Path:
    """Scratch space of the stages (staged partitions, run directories)."""
    return persia_home(project) / "work"
