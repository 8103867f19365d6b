"""Workers with servers as threads of this process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from persia_core import _native

MakeWorker = Callable[..., _native.EmbeddingWorker]


@pytest.fixture
def make_worker() -> Iterator[MakeWorker]:
    """A configured worker; keywords replace the defaults. Its servers end with the test."""
    workers: list[_native.EmbeddingWorker] = []

    def make(**changes: Any) -> _native.EmbeddingWorker:
        configure = changes.pop("configure", True)
        options: dict[str, Any] = {
            "transport": "in-process",
            "servers": 1,
            "trainer": 0,
            "trainers": 1,
            "staleness": 1,
            "combine": False,
            "seed": 5,
            "timeout_s": 20.0,
        } | changes
        options.setdefault("features", list(range(len(options["tables"]))))
        worker = _native.EmbeddingWorker(**options)
        if configure:
            worker.configure()
        workers.append(worker)
        return worker

    yield make
    workers.clear()
