"""A real S3 endpoint over HTTP for tests: the embedded one, in a process of its own."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 60.0


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Start the server on a free port of the loopback interface; gives its URL, ends it afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "persia_core.platform.s3_endpoint"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield _wait_for_url(process, log)
    finally:
        process.kill()
        process.wait()


def _wait_for_url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 endpoint ended with {process.returncode}: {log.read_text()[-2000:]}")
        if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text()):
            with urllib.request.urlopen(f"{found[1]}/moto-api/") as answer:  # noqa: S310
                answer.read()
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the S3 endpoint does not answer: {log.read_text()[-2000:]}")
