"""What a benchmark leaves behind: a table on the terminal and benchmarks/results/<name>.json."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine

PROJECT = machine.PROJECT
RESULTS = PROJECT / "benchmarks" / "results"
IMAGES = PROJECT / "docs" / "images"


def write(
    path: Path, figures: Mapping[str, float], samples: Mapping[str, object], notes: list[str], command: str
) -> None:
    """Figures rounded to four digits; `samples` as they were measured."""
    content = {
        "commit": machine.commit(),
        "command": command,
        "machine": machine.describe(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "figures": {name: float(f"{value:.4g}") for name, value in figures.items()},
        "notes": notes,
        "samples": samples,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def keep(
    path: Path,
    part: str,
    part_of: Callable[[str], str],
    figures: dict[str, float],
    samples: dict[str, Any],
    notes: list[str],
) -> None:
    """Take over what the result in `path` holds of a part that is not run now, and note of which run it is.

    `part_of` tells of the name of a figure or a sample which part it is of.
    """
    if not path.exists():
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in earlier["figures"].items() if part_of(name) == part}
    if not kept:
        return
    figures |= kept
    samples |= {name: value for name, value in earlier["samples"].items() if part_of(name) == part}
    said = f"{part}: of the run "
    notes += [note for note in earlier.get("notes", []) if note.startswith(said)][-1:] or [
        f"{said}of {earlier['date']}, commit {earlier['commit']}"
    ]


def make_command(target: str) -> str:
    """The command that was given, to be put into the result."""
    options = shlex.join(sys.argv[1:])
    return f"make {target}" + (f" ARGS={shlex.quote(options)}" if options else "")


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their widest cell, all but the first to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    print(f"\n{title}")
    for row in [header, *rows]:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells).rstrip())
