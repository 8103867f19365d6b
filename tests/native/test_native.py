"""The C++ tests, and the binaries as they are installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from persia_core import _native
from persia_core.embedding.server import server_program

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def native_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ test program of the present sources."""
    build = tmp_path_factory.mktemp("native-tests")
    cmake = [shutil.which("cmake", path=str(Path(sys.executable).parent)) or "cmake"]
    existing = REPOSITORY / "build" / str(sys.implementation.cache_tag)
    if (existing / "CMakeCache.txt").exists():
        build = existing  # of the editable install: only what has changed is built again
    else:
        options = ["-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"]
        subprocess.run([*cmake, "-S", REPOSITORY / "native", "-B", build, *options], check=True, timeout=120)
    subprocess.run([*cmake, "--build", build, "--target", "persia_native_tests"], check=True, timeout=500)
    return build / "tests" / "persia_native_tests"


def test_the_native_tests_pass(native_tests: Path) -> None:
    result = subprocess.run([native_tests], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].endswith("tests, 0 failures")


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf (binutils) is not installed")
def test_binaries_find_mpi_relative_to_themselves() -> None:
    for binary in (server_program(), Path(_native.__file__)):
        dynamic = subprocess.run(
            ["readelf", "-d", binary], capture_output=True, text=True, timeout=30, check=True
        ).stdout
        paths = [line for line in dynamic.splitlines() if "RUNPATH" in line or "RPATH" in line]
        assert len(paths) == 1
        assert "[$ORIGIN/" in paths[0]
        assert "libmpi.so" in dynamic
