"""infra/has_java.py, which decides whether set-up must bring a Java along.

Run without site-packages, as on a machine where nothing is installed yet.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "infra" / "has_java.py"


def run(environment: dict[str, str]) -> int:
    return subprocess.run([sys.executable, "-S", SCRIPT], env=environment, check=False).returncode


def java(home: Path, answer: str) -> Path:
    """A `bin/java` under `home` that prints `answer` as Java prints its version; returns bin."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{answer}' >&2\n")
    program.chmod(0o755)
    return program.parent


def test_without_any_java_one_is_asked_for(tmp_path: Path) -> None:
    assert run({"PATH": str(tmp_path)}) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 0),
        ('openjdk version "21" 2023-09-19', 0),
        ('openjdk version "11.0.2" 2019-01-15', 1),
        ('java version "1.8.0_201"', 1),
        ("no version here", 1),
    ],
)
def test_the_version_decides(tmp_path: Path, answer: str, code: int) -> None:
    directory = java(tmp_path / "jdk", answer)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run({"PATH": str(directory)}) == code
    assert run({"PATH": str(empty), "JAVA_HOME": str(directory.parent)}) == code


def test_a_java_on_the_path_does_where_java_home_is_too_old(tmp_path: Path) -> None:
    old = java(tmp_path / "old", 'java version "1.8.0_201"')
    new = java(tmp_path / "new", 'openjdk version "17.0.15"')
    assert run({"PATH": str(new), "JAVA_HOME": str(old.parent)}) == 0
