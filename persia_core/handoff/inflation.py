"""Refusing files that would take far more memory than they have bytes, before they are decoded."""

from pathlib import Path
from typing import Any

from persia_core.errors import Corrupt

MAX_HEADER_BYTES = 16 << 20  # of a dense network's tensors: names, types and shapes


def check_bounded(path: Path, metadata: Any, rows: int, values: int, size: int) -> None:
    """Raises Corrupt if the file has more rows, values in a column, or bytes when read than these.

    For small files that are read as a whole. The bytes are those that the file itself says.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    found = {
        "rows": (metadata.num_rows, rows),
        "values": (sum(column.num_values for column in columns), values),
        "bytes": (sum(column.total_uncompressed_size for column in columns), size),
    }
    for what, (count, limit) in found.items():
        if count > limit:
            raise Corrupt(
                f"{path} holds {count} {what}, at most {limit} are expected", "publish the run again"
            )


def check_header(path: Path) -> None:
    """Raises Corrupt if the header of a safetensors file says that it is longer than MAX_HEADER_BYTES."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > min(MAX_HEADER_BYTES, path.stat().st_size):
        raise Corrupt(
            f"{path} says that its header has {size} bytes", "publish the version again under a new run"
        )
