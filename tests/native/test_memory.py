"""What a table takes of the machine's memory, measured from outside: by the resident set of a process."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
ROWS = (30_000, 300_000)


def test_a_full_table_takes_24_bytes_a_row_beyond_its_payload_and_stays_as_large(tmp_path: Path) -> None:
    result = tmp_path / "memory.json"
    program = [sys.executable, "-m", "benchmarks.memory", str(result), *map(str, ROWS)]
    subprocess.run(program, cwd=PROJECT, check=True, timeout=300)

    outcome = json.loads(result.read_text(encoding="utf-8"))
    for rows in ROWS:
        assert outcome["samples"][f"{rows} rows"]["rows"] == rows  # the capacity is what it was asked to be
    assert 0 < outcome["figures"]["overhead_bytes_per_row"] <= 24
    assert outcome["figures"]["rss_growth_at_capacity"] <= 0.02
