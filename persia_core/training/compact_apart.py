"""Compacting a chain of cuts in a process of its own: training's interpreter has nothing to do with it."""

import os
import subprocess
import sys
from pathlib import Path

from persia_core.checkpoint.compact import compact
from persia_core.errors import PersiaError
from persia_core.launch.parent import end_with_parent

_NICE = 19  # training goes first


class NotCompacted(Exception):
    """What the process said last."""


def compact_apart(paths: list[Path], directory: Path) -> None:
    """As `compact`. Raises NotCompacted; `directory` may hold some of the parts then.

    The process ends with the calling thread.
    """
    command = [sys.executable, "-m", __name__, str(directory), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise NotCompacted(said[-1] if said else f"the process ended with {done.returncode}")


def main(arguments: list[str]) -> int:
    """The process: a directory, and the parts."""
    end_with_parent()
    os.nice(_NICE)
    directory, *paths = map(Path, arguments)
    try:
        compact(paths, directory)
    except (PersiaError, OSError) as error:
        print(getattr(error, "what", error), file=sys.stderr)  # noqa: T201  (to the process that waits for it)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
