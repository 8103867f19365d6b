"""Lint infra/docker without a Docker engine; prints every finding and exits 1 if there is any.

hadolint reads the Dockerfiles and check-jsonschema holds compose.yaml against the Compose specification's
schema. What neither knows is checked here: that what is copied exists and is not ignored, that no image runs
as root or floats, that ports are published on loopback only, and that every setting is in example.env.
"""

import fnmatch
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser  # type: ignore[import-untyped]  # ships no types

DOCKER = Path("infra/docker")
LOOPBACK = "127.0.0.1:"
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_][A-Z0-9_]*)")


def main(root: Path) -> int:
    """Lint the project in `root`; 0 if there is no finding, else 1."""
    findings = [*hadolint(root), *compose_schema(root), *dockerfiles(root), *compose(root)]
    for finding in findings:
        sys.stderr.write(f"{finding}\n")
    if not findings:
        sys.stdout.write("containers: Dockerfiles and compose.yaml have no findings (linted, not run)\n")
    return 1 if findings else 0


def hadolint(root: Path) -> list[str]:
    """hadolint's findings, one string with all of them."""
    files = sorted(str(path.relative_to(root)) for path in (root / DOCKER).glob("*.Dockerfile"))
    return _run(root, "hadolint", "--no-color", "--config", str(DOCKER / "hadolint.yaml"), *files)


def compose_schema(root: Path) -> list[str]:
    """Where compose.yaml departs from the Compose specification's schema."""
    schema = "vendor.compose-spec"  # a copy that the package brings along: no network
    return _run(root, "check-jsonschema", "--builtin-schema", schema, str(DOCKER / "compose.yaml"))


def dockerfiles(root: Path) -> Iterator[str]:
    """Copied paths that are not there or ignored, base images without a fixed tag, images run by root."""
    ignored = [
        line.strip()
        for line in (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    for path in sorted((root / DOCKER).glob("*.Dockerfile")):
        name = path.relative_to(root)
        user = None
        arguments: dict[str, str] = {}
        stages: set[str] = set()
        for step in DockerfileParser(fileobj=BytesIO(path.read_bytes())).structure:
            where = f"{name}:{step['startline'] + 1}"
            words = step["value"].split()
            match step["instruction"]:
                case "ARG":
                    key, _, value = words[0].partition("=")
                    arguments[key] = value
                case "FROM":
                    image = Template(words[0]).safe_substitute(arguments)
                    if image not in stages and (":" not in image or image.endswith(":latest")):
                        yield f"{where}: image {image!r} has no fixed tag"
                    if len(words) == 3:
                        stages.add(words[2])
                    user = None
                case "USER":
                    user = words[0]
                case "COPY" | "ADD" if not words[0].startswith("--from="):
                    for source in words[:-1]:
                        if source != "." and not list(root.glob(source)):
                            yield f"{where}: {source} does not exist"
                        elif pattern := _ignored_by(source, ignored):
                            yield f"{where}: {source} is left out by {pattern!r} in .dockerignore"
        if user in (None, "root", "0"):
            yield f"{name}: the image runs as root; end it with USER"


def compose(root: Path) -> Iterator[str]:
    """Dockerfiles that are not there, ports open to the network, settings missing from example.env."""
    path = root / DOCKER / "compose.yaml"
    text = path.read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    name = path.relative_to(root)
    for service, settings in document["services"].items():
        if build := settings.get("build"):
            dockerfile = (path.parent / build["context"] / build["dockerfile"]).resolve()
            if not dockerfile.is_file():
                yield f"{name}: {service}: {build['dockerfile']} does not exist"
        elif ":" not in settings.get("image", "") or settings["image"].endswith(":latest"):
            yield f"{name}: {service}: image {settings.get('image')!r} has no fixed tag"
        for port in settings.get("ports", []):
            if not str(port).startswith(LOOPBACK):
                yield f"{name}: {service}: port {port} is not published on {LOOPBACK.rstrip(':')} only"
    example = (root / DOCKER / "example.env").read_text(encoding="utf-8")
    known = dict(line.split("=", 1) for line in example.splitlines() if re.match(r"[A-Z_0-9]+=", line))
    code = "\n".join(line.split(" #")[0] for line in text.splitlines() if not line.lstrip().startswith("#"))
    used = set(_VARIABLE.findall(code))
    for variable in sorted(used - known.keys()):
        yield f"{DOCKER / 'example.env'}: {variable} is used by compose.yaml and not explained"
    for variable in sorted(known.keys() - used):
        yield f"{DOCKER / 'example.env'}: {variable} is used nowhere"
    for variable, value in known.items():
        if value and re.search("KEY|SECRET|PASSWORD", variable):
            yield f"{DOCKER / 'example.env'}: {variable} has a value; secrets are not committed"


def _ignored_by(source: str, patterns: list[str]) -> str | None:
    """The pattern of .dockerignore that leaves `source` or a directory above it out."""
    paths = [PurePosixPath(source), *PurePosixPath(source).parents]
    for pattern in patterns:
        for candidate in (str(path) for path in paths if str(path) != "."):
            if fnmatch.fnmatch(candidate, pattern) or fnmatch.fnmatch(candidate, pattern.removeprefix("**/")):
                return pattern
    return None


def _run(root: Path, program: str, *arguments: str) -> list[str]:
    command = [str(Path(sysconfig.get_path("scripts")) / program), *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    output = (done.stdout + done.stderr).strip()
    return [output or f"{program} ended with {done.returncode}"] if done.returncode else []


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1]))
