"""A store with a champion, built once; every test attacks a copy of its own."""

import shutil
from pathlib import Path

import pytest

from tests.attacks.victim import Victim, build


@pytest.fixture(scope="session")
def whole_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("victim")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIA_HOME", str(root / "home"))
        build(root)
    return root / "store"


@pytest.fixture
def victim(whole_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Victim:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    shutil.copytree(whole_store, tmp_path / "store")
    return Victim(tmp_path)
