"""Where the embedding server's program is."""

import shutil
import sys
from pathlib import Path

from persia_core.errors import EnvironmentProblem

SERVER_PROGRAM = "persia-embedding-server"


def server_program() -> Path:
    """The program beside this Python interpreter, else on PATH; raises EnvironmentProblem."""
    beside = Path(sys.executable).parent / SERVER_PROGRAM
    if beside.exists():
        return beside
    found = shutil.which(SERVER_PROGRAM)
    if found is None:
        raise EnvironmentProblem(
            f"{SERVER_PROGRAM} is not installed beside {sys.executable}",
            "build and install the package: pip install --no-build-isolation .",
        )
    return Path(found)
