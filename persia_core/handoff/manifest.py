"""Manifests: a directory is complete if and only if its manifest exists. See docs/formats/manifest.md."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from persia_core.errors import Corrupt

MAX_MANIFEST_BYTES = 16 << 20
MAX_PATH_BYTES = 512  # S3 allows 1024 with the prefix
MAX_NAME_BYTES = 200  # file systems allow 255, and a download has a longer name while it is under way


def _relative(path: str) -> str:
    steps = path.split("/")  # a PurePosixPath for each of 100,000 parts costs seconds
    if path in ("", ".") or path.startswith("/") or ".." in steps or "\\" in path:
        raise ValueError(f"part path {path!r} must be relative, without '..'")
    if not path.isprintable():  # the digest separates fields by tab and newline
        raise ValueError(f"part path {path!r} has control characters")
    if len(path.encode()) > MAX_PATH_BYTES or any(len(step.encode()) > MAX_NAME_BYTES for step in steps):
        raise ValueError(f"part path {path[:40]!r}… is longer than file systems allow")
    if "" in steps or "." in steps:
        raise ValueError(f"part path {path!r} is not in its plain form ({PurePosixPath(path)})")
    return path


class Part(BaseModel):
    """One file of a manifest; `rows` counts samples, table rows or None for other files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, AfterValidator(_relative)]
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    rows: Annotated[int, Field(ge=0)] | None = None


class Lineage(BaseModel):
    """Where something came from. `parent` is the checkpoint or version it started from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    ds: str
    parent: str | None = None
    hashed_digest: str | None = None
    config_digest: str
    code_version: str


class Manifest(BaseModel):
    """What a prefix holds. The digest covers the parts only, so equal data has an equal digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    kind: Literal["hashed", "rejected", "checkpoint", "cut", "model_version"]
    digest: str
    parts: list[Part]
    schema_fingerprint: str
    lineage: Lineage
    metrics: dict[str, Any] = {}
    details: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        paths = [part.path for part in self.parts]
        if len(set(paths)) != len(paths):
            raise ValueError("a part is listed twice")
        if self.digest != digest_of(self.parts):
            raise ValueError("the digest does not match the listed parts")
        return self

    def to_bytes(self) -> bytes:
        """UTF-8 JSON with sorted keys; NaN and infinities, which JSON has not, become null."""
        return (
            json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False) + "\n"
        ).encode()

    @staticmethod
    def from_bytes(data: bytes, where: str) -> "Manifest":
        """Parse and check; raises Corrupt naming `where` (the key or file) if anything is off."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise Corrupt(
                f"manifest {where} has {len(data)} bytes", "a manifest is at most 16 MiB; write it again"
            )
        try:
            return Manifest.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"]) or "document"
            raise Corrupt(
                f"manifest {where}: {place}: {first['msg']}",
                "the file was damaged or written by something else; restore it or run the stage again",
            ) from error


def digest_of(parts: list[Part]) -> str:
    """SHA-256 (hex) over path, size and checksum of the parts, in order of path."""
    lines = "".join(f"{p.path}\t{p.size}\t{p.sha256}\n" for p in sorted(parts, key=lambda p: p.path))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_of(root: Path, path: Path, rows: int | None = None) -> Part:
    """The manifest entry of `path`, relative to `root`."""
    relative = path.relative_to(root).as_posix()
    return Part(path=relative, size=path.stat().st_size, sha256=sha256_file(path), rows=rows)
