"""`persia serve` as a process, and the load that wrk puts on it."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import PROJECT
from persia_core.config import ModelConfig

START_TIMEOUT_S = 600.0


@contextmanager
def serving(config: ModelConfig, scratch: Path) -> Iterator[tuple[str, float]]:
    """URL, and the seconds from the start of the process to its first answer that it is healthy."""
    file, log = scratch / "bench.yaml", scratch / "serve.log"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "persia_core.cli", "serve", "--config", str(file), "--port", "0"]
    environment = {**os.environ, "PERSIA_HOME": str(scratch / "home")}
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--cache", str(scratch / "cache")],
            cwd=PROJECT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = _wait_for_url(process, log)
        with urllib.request.urlopen(f"{url}/healthz") as answer:  # noqa: S310
            answer.read()
        yield url, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(60)


def _wait_for_url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"serving \S+ at (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.01)
    raise RuntimeError(f"persia serve did not start: {log.read_text()[-2000:]}")


def load(
    url: str, rows: list[dict[str, str]], connections: int, seconds: int, scratch: Path
) -> dict[str, Any]:
    """Post `rows` from so many connections; requests/s, rows/s, p50 and p99 in milliseconds, errors."""
    body = scratch / "body.json"
    body.write_text(json.dumps({"rows": rows}))
    script = Path(__file__).parent / "load.lua"
    options = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s", "-s", str(script)]
    command = ["wrk", *options, f"{url}/predict"]
    environment = {**os.environ, "PERSIA_BENCH_BODY": str(body)}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    seen = json.loads(output.splitlines()[-1])
    per_second = seen["requests"] / (seen["duration_us"] / 1e6)
    return {
        "requests_per_s": per_second,
        "rows_per_s": per_second * len(rows),
        "p50_ms": seen["p50_us"] / 1000,
        "p99_ms": seen["p99_us"] / 1000,
        "errors": seen["errors"],
    }
