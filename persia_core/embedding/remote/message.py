"""Messages between a trainer and its embedding worker: a head of JSON, then arrays as they lie in memory."""

import json
import math
import struct
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"PRSW"
VERSION: Final = 1
MAX_HEAD_BYTES: Final = 16 << 20
MAX_ARRAY_BYTES: Final = 4 << 30
_START: Final = struct.Struct("<4sHHI")
_DTYPES: Final = frozenset({"<f4", "<f2", "<i8", "<u8", "<i4", "<u4", "|u1"})

Buffer = NDArray[np.uint8]


class MessageError(ValueError):
    """Bytes that are no message of this version."""


@dataclass(frozen=True)
class Message:
    """`fields` is what JSON can say; `arrays` are C-contiguous."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: list[NDArray[Any]] = field(default_factory=list)

    def head(self) -> Buffer:
        """Everything but the contents of the arrays, uint8 [n]."""
        text = json.dumps(
            {
                "kind": self.kind,
                "fields": self.fields,
                "arrays": [[array.dtype.str, list(array.shape)] for array in self.arrays],
            },
            allow_nan=False,
        ).encode()
        return np.frombuffer(_START.pack(MAGIC, VERSION, 0, len(text)) + text, np.uint8)

    def contents(self) -> list[Buffer]:
        """The bytes of every array that has any. They are the array's own: nothing is copied."""
        return [_bytes_of(array) for array in self.arrays if array.nbytes]

    @staticmethod
    def from_head(head: bytes) -> "Message":
        """The message of a head, its arrays allocated and not yet filled. Raises MessageError."""
        if len(head) < _START.size:
            raise MessageError(f"a head of {len(head)} bytes")
        magic, version, reserved, length = _START.unpack_from(head)
        if magic != MAGIC or version != VERSION or reserved != 0 or length != len(head) - _START.size:
            raise MessageError(f"not the head of a message of version {VERSION}: {head[:12].hex()}")
        try:
            document = json.loads(head[_START.size :])
            kind, fields, arrays = document["kind"], document["fields"], document["arrays"]
            if not (isinstance(kind, str) and isinstance(fields, dict)):
                raise TypeError("kind or fields")
            return Message(kind, fields, [_allocate(dtype, shape) for dtype, shape in arrays])
        except (ValueError, TypeError, KeyError) as error:
            raise MessageError(f"the head of a message is damaged: {error}") from error


def _bytes_of(array: NDArray[Any]) -> Buffer:
    if not array.flags.c_contiguous:
        raise MessageError(f"an array of shape {array.shape} is not contiguous")
    return array.reshape(-1).view(np.uint8)


def _allocate(dtype: str, shape: list[int]) -> NDArray[Any]:
    if dtype not in _DTYPES:
        raise MessageError(f"arrays of dtype {dtype!r} are not sent")
    if any(not isinstance(size, int) or size < 0 for size in shape):
        raise MessageError(f"{shape} is no shape")
    if math.prod(shape) * np.dtype(dtype).itemsize > MAX_ARRAY_BYTES:
        raise MessageError(f"an array of shape {shape} has more than {MAX_ARRAY_BYTES} bytes")
    return np.empty(shape, np.dtype(dtype))
