"""The headers of a cut's embedding parts, by which a part can be known without reading its rows.

A header says which rows are where, which cut the part follows, and the checksum of its data. Where servers
have the rows in memory, they read the headers alone, so the manifest of a cut has a checksum of each.
"""

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path

from persia_core.handoff.manifest import Manifest

HEADERS = "headers"  # of the details of a manifest: path of the part -> SHA-256 of its header

_LENGTH = struct.Struct("<Q")
_LONGEST = 16 << 20


def header_bytes(part: Path) -> bytes:
    """The JSON in front of a part's data. Raises ValueError if it is none, OSError."""
    with part.open("rb") as file:
        first = file.read(_LENGTH.size)
        if len(first) < _LENGTH.size:
            raise ValueError(f"{part} has {len(first)} bytes")
        (length,) = _LENGTH.unpack(first)
        if length > _LONGEST:
            raise ValueError(f"{part}: the header has {length} bytes")
        header = file.read(length)
    if len(header) < length:
        raise ValueError(f"{part} ends in its header")
    return header


def header_digests(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """For the details of a manifest, of the parts `names` in `directory`. Raises ValueError, OSError."""
    return {name: _digest(directory / name) for name in names}


def header_is_whole(manifest: Manifest, directory: Path, name: str) -> bool:
    """Whether the part `name` has the header that its manifest knows; False where it knows of none."""
    known = manifest.details.get(HEADERS)
    try:
        return isinstance(known, dict) and known.get(name) == _digest(directory / name)
    except (OSError, ValueError):
        return False


def _digest(part: Path) -> str:
    return hashlib.sha256(header_bytes(part)).hexdigest()
