"""What a benchmark leaves behind: a table on the terminal and benchmarks/results/<name>.json."""

import json
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

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
