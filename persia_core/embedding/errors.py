"""Errors of the embedding servers as errors for people."""

import re
from typing import Final

from persia_core.errors import Corrupt, DiskFull, PersiaError, RankFailed, RankHung

_CODE: Final = re.compile(r"server rank \d+: [A-Z_]+: ([A-Z_]+): ")


def server_error_code(error: BaseException) -> str | None:
    """The code of a ServerError (see docs/formats/wire.md), `None` if it names none.

    Where several servers refused, the first one's.
    """
    match = _CODE.search(str(error))
    return match.group(1) if match else None


def as_persia_error(error: RuntimeError) -> PersiaError:
    """The PersiaError, with remedy and exit code, for a ServerError or a TransportError of the worker."""
    from persia_core import _native

    what = f"embedding {error}"
    if isinstance(error, _native.TransportError):
        if "no answer" in str(error):
            return RankHung(
                what, "look for the log of that rank; raise cluster.timeout_s if it was only slow"
            )
        return RankFailed(what, "look for the log of that rank, then run again")
    match server_error_code(error):
        case "NO_SPACE":
            return DiskFull(what, "free space on that disk, or set PERSIA_HOME to another, then run again")
        case "CORRUPT_PART":
            return Corrupt(what, "restore that file, or start from an earlier checkpoint")
        case "PART_MISMATCH":
            return Corrupt(
                what, "the checkpoint is of another configuration: undo the change of tables, or start cold"
            )
        case _:
            return RankFailed(what, "see the log of the job for what came before, then run again")
