"""One Spark session for all tests here: starting it takes seconds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_jobs.session import spark_session


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with spark_session(tmp_path_factory.mktemp("spark"), cores=2, memory="1g") as session:
        yield session


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
