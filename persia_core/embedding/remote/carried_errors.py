"""Errors of an embedding worker, raised again in the trainer that it serves."""

import traceback
from typing import Any, Final

from persia_core import _native
from persia_core.errors import PersiaError
from persia_core.exit_codes import ExitCode

_BY_NAME: Final[dict[str, type[Exception]]] = {
    error.__name__: error
    for error in (
        _native.ServerError,
        _native.TransportError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        MemoryError,
    )
}


def error_fields(error: BaseException) -> dict[str, Any]:
    """What is sent of an error."""
    fields: dict[str, Any] = {
        "error": type(error).__name__,
        "text": str(error),
        "trace": "".join(traceback.format_exception(error)),
    }
    if isinstance(error, PersiaError):
        fields |= {"exit_code": int(error.exit_code), "what": error.what, "remedy": error.remedy}
    elif isinstance(error, OSError):
        fields |= {"errno": error.errno, "text": error.strerror or str(error)}
    return fields


def carried_error(fields: dict[str, Any], peer: str) -> Exception:
    """The error as it was, with a note where it was raised; RuntimeError if its class is not known here."""
    if "exit_code" in fields:
        return _persia_error(ExitCode(fields["exit_code"]), fields["what"], fields["remedy"])
    error: Exception
    if "errno" in fields:
        number = fields["errno"]
        error = OSError(fields["text"]) if number is None else OSError(number, fields["text"])
    elif (known := _BY_NAME.get(fields["error"])) is not None:
        error = known(fields["text"])
    else:
        error = RuntimeError(f"{fields['error']}: {fields['text']}")
    error.add_note(f"raised in {peer}:\n{fields['trace']}")
    return error


def _persia_error(code: ExitCode, what: str, remedy: str) -> PersiaError:
    for known in PersiaError.__subclasses__():
        if known.exit_code == code:
            return known(what, remedy)
    error = PersiaError(what, remedy)
    error.exit_code = code
    return error
