"""infra/lint_containers.py finds what it says it finds, in copies of infra/docker spoilt in one way each."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lint() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lint_containers", PROJECT / "infra" / "lint_containers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the Dockerfiles name, copied."""
    for name in ("infra", "persia_core", "spark_jobs"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in (".dockerignore", "Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(PROJECT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path.name}: the test spoils nothing"
    path.write_text(text.replace(old, new, 1))


def test_the_committed_files_have_no_findings(
    lint: ModuleType, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint.main(project) == 0, capsys.readouterr().err


LINTERS = [
    ("trainer.Dockerfile", "USER 10001", "USER root", "DL3002"),
    ("spark.Dockerfile", "--no-install-recommends ", "", "DL3015"),
    ("compose.yaml", "    restart: unless-stopped", "    restrat: always", "restrat"),
]
OURS = [
    ("trainer.Dockerfile", "COPY infra/setup.sh", "COPY infra/gone.sh", "infra/gone.sh does not exist"),
    ("trainer.Dockerfile", "python:3.11-slim-bookworm", "python:latest", "no fixed tag"),
    ("trainer.Dockerfile", "python:3.11-slim-bookworm", "python", "no fixed tag"),
    ("trainer.Dockerfile", "USER 10001", "", "runs as root"),
    ("compose.yaml", "127.0.0.1:${S3_PORT", "${S3_PORT", "not published on 127.0.0.1 only"),
    ("compose.yaml", "docker/spark.Dockerfile", "docker/gone.Dockerfile", "gone.Dockerfile does not exist"),
    ("compose.yaml", "postgres:16-bookworm", "postgres", "no fixed tag"),
    ("example.env", "POSTGRES_PASSWORD=", "", "POSTGRES_PASSWORD is used by compose.yaml"),
    ("example.env", "POSTGRES_PASSWORD=", "POSTGRES_PASSWORD=hunter2", "secrets are not committed"),
    ("example.env", "S3_PORT=", "OLD_PORT=1\nS3_PORT=", "OLD_PORT is used nowhere"),
]


@pytest.mark.parametrize(("file", "old", "new", "finding"), LINTERS)
def test_what_a_linter_finds_is_printed_and_ends_with_1(
    lint: ModuleType,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    finding: str,
) -> None:
    edit(project / "infra" / "docker" / file, old, new)
    assert lint.main(project) == 1
    printed = capsys.readouterr().err
    assert finding in printed
    assert file in printed


@pytest.mark.parametrize(("file", "old", "new", "finding"), OURS)
def test_what_linters_do_not_know_is_found(
    lint: ModuleType, project: Path, file: str, old: str, new: str, finding: str
) -> None:
    edit(project / "infra" / "docker" / file, old, new)
    found = [*lint.dockerfiles(project), *lint.compose(project)]
    assert found
    assert all(finding in each and file in each for each in found)


@pytest.mark.parametrize("pattern", ["infra", "infra/*.sh", "**/setup.sh", "infra/setup.sh"])
def test_a_copied_file_that_is_ignored_is_named(lint: ModuleType, project: Path, pattern: str) -> None:
    with (project / ".dockerignore").open("a") as file:
        file.write(pattern + "\n")
    found = list(lint.dockerfiles(project))
    assert sum(f"infra/setup.sh is left out by {pattern!r}" in finding for finding in found) == 3
