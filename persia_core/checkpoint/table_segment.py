"""What a segment says of itself: the tables of an embedding server as of its last cut, in memory.

Embedding servers write and read segments; see docs/formats/table_segment.md.
"""

import json
import struct
from pathlib import Path

from persia_core.checkpoint.part_headers import header_bytes

_HEADER = struct.Struct("<8s6I9Q")
_MAGIC, _VERSION, _WHOLE = b"PERSIATS", 1, 1


def segment_file(server: int) -> str:
    """What embedding server `server` writes; the C++ side spells the same name."""
    return f"tables-{server}.segment"


def segment_has(path: Path, part: Path, servers: int, threads: int) -> bool:
    """Whether the segment `path` is whole and has the rows of the embedding part `part`.

    Only the headers of both are read: the server checks every byte before it uses any. `servers` and
    `threads` are those of the job that is to use it.
    """
    try:
        with path.open("rb") as file:
            header = _HEADER.unpack(file.read(_HEADER.size))
        checksum = _checksum_of(part)
    except (OSError, ValueError, struct.error):
        return False
    magic, version, state, _, of_servers, of_threads, _, _, of_part, *_ = header
    bytes_of_file = header[12]
    return (
        (magic, version, state) == (_MAGIC, _VERSION, _WHOLE)
        and (of_servers, of_threads) == (servers, threads)
        and f"{of_part:016x}" == checksum
        and path.stat().st_size == bytes_of_file
    )


def _checksum_of(part: Path) -> str:
    """The checksum of its data that a part names in its header; raises ValueError, OSError."""
    return str(json.loads(header_bytes(part)).get("__metadata__", {}).get("data_xxh64"))
