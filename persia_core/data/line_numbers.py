"""Which line of a text file a split of Hadoop's line reader begins with."""

from typing import BinaryIO

_CHUNK = 1 << 20


class LineNumbers:
    """Reads one file forward, a chunk at a time; a line ends with LF, CR or CR LF, as for Hadoop.

    The reader of a split that begins at byte b > 0 leaves the line that it begins in, or with, to the
    split before. Its first line is the first one that begins after b.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        """`file` is at its start; `name` is for errors."""
        self._name, self._file = name, file
        self._at = 0
        self._ends = 0  # of lines that end at or before `_at`, but for a CR that stands just before it
        self._after_cr = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def first_line(self, block: int) -> int:
        """The number, from 1, of the first line of the split at byte `block`; blocks must not descend."""
        if block == 0:
            return 1
        while self._at < block:
            chunk = self._file.read(min(_CHUNK, block - self._at))
            if not chunk:
                raise ValueError(f"{self._name} has no byte {block}")
            self._ends += self._after_cr and not chunk.startswith(b"\n")
            self._ends += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
            self._after_cr = chunk.endswith(b"\r")
            self._ends -= self._after_cr
            self._at += len(chunk)
        following = self._file.read(1)
        self._file.seek(self._at)
        # `ends` + 1 lines begin at or before `block`, so the next has the number `ends` + 2.
        return self._ends + (self._after_cr and following != b"\n") + 2
