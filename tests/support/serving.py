"""`persia serve` as users start it: a process of its own, spoken to over HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from persia_core.config import ModelConfig
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer, swap_pointer

START_TIMEOUT_S = 120.0


class Served:
    """A server that runs."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.url = url
        self.process = process
        self.log = log

    def get(self, path: str) -> tuple[int, str]:
        return self._ask(urllib.request.Request(self.url + path))  # noqa: S310

    def post(self, path: str, document: Any) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310
            self.url + path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        code, text = self._ask(request)
        return code, json.loads(text)

    @staticmethod
    def _ask(request: urllib.request.Request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait_for(self, what: str, ready: Any) -> None:
        deadline = time.monotonic() + 60
        while not ready():
            assert time.monotonic() < deadline, f"{what} did not happen: {self.log.read_text()[-2000:]}"
            time.sleep(0.05)


@contextmanager
def serving(config: ModelConfig, directory: Path, follow_every_s: float = 0.2) -> Iterator[Served]:
    """Serve the champion of `config`, with everything that it keeps in `directory`."""
    directory.mkdir(exist_ok=True)
    file, log = directory / f"{config.name}.yaml", directory / "serve.log"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "persia_core.cli", "serve", "--config", str(file), "--port", "0"),
                *("--follow-every", str(follow_every_s), "--cache", str(directory / "cache")),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PERSIA_HOME": str(directory / "home")},
        )
    try:
        yield Served(_wait_for_url(process, log), process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if found := re.search(r"serving \S+ at (http://\S+)", log.read_text()):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"persia serve did not start: {log.read_text()[-2000:]}")


def make_champion(store: ObjectStore, model: str, version: str) -> None:
    """Move the pointer without asking any gate."""
    found = read_pointer(store, model, CHAMPION)
    sha256 = read_version(store, model, version).sha256
    pointer = Pointer(version=version, ds=version[:10], manifest_sha256=sha256, reason="test")
    swap_pointer(store, model, CHAMPION, pointer, found[1] if found else None)
