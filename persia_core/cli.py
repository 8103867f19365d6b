"""The `persia` command: the very calls that the operators make."""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from persia_core import __version__
from persia_core.commands import COMMANDS
from persia_core.errors import PersiaError
from persia_core.exit_codes import ExitCode

log = logging.getLogger(__name__)


class _Terminated(BaseException):
    """SIGTERM came: unwind, so that what was started is ended and temporary files go."""


def main(argv: list[str] | None = None) -> None:
    """Parse, run, and exit with a code of `persia_core.exit_codes`."""
    arguments = build_parser().parse_args(argv)
    _log_to_stderr(arguments.verbose)
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments.run, arguments))


def run(command: Callable[[argparse.Namespace], Any], arguments: argparse.Namespace) -> int:
    """Run one command and turn what it raises into a message and an exit code; count it if it is a stage."""
    began = time.monotonic()
    code, result, role = _run(command, arguments)
    if (stage := getattr(arguments, "stage", None)) is not None:
        from persia_core.monitoring.report import report
        from persia_core.monitoring.stages import Ended

        ended = Ended(code, time.monotonic() - began, _document(result), role)
        with contextlib.suppress(_Terminated, KeyboardInterrupt):  # the work is done, however it ended
            report(stage, getattr(arguments, "loaded_config", None), getattr(arguments, "ds", None), ended)
    return code


def _run(
    command: Callable[[argparse.Namespace], Any], arguments: argparse.Namespace
) -> tuple[int, Any, str | None]:
    """The exit code, the result (of what failed: what it found out all the same), the rank that failed."""
    result: Any = None
    try:
        result = command(arguments)
        if getattr(arguments, "result_file", None):
            _write_result(Path(arguments.result_file), result)
        elif result is not None:
            print(json.dumps(_document(result), indent=1, default=str))
        return int(ExitCode.OK), result, None
    except PersiaError as error:
        if arguments.verbose:
            traceback.print_exc()
        if error.result is not None and getattr(arguments, "result_file", None):
            _write_result(Path(arguments.result_file), error.result)
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code), error.result, error.role
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return int(ExitCode.INTERRUPTED), None, None
    except _Terminated:
        print("terminated", file=sys.stderr)
        return int(ExitCode.TERMINATED), None, None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK), result, None
    except Exception as error:
        traceback.print_exc()
        print(
            f"error: {type(error).__name__}: {error}\n"
            "  what to do: this is a defect of persia; report it with the lines above",
            file=sys.stderr,
        )
        return int(ExitCode.UNEXPECTED), None, None


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="persia",
        description="Train recommenders with giant embedding tables, every day.",
        epilog="Exit codes are listed in docs/operations.md; each error says what to do.",
    )
    parser.add_argument("--version", action="version", version=f"persia {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="debug messages and tracebacks")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


def _terminate(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; a second one must not stop the unwinding
    raise _Terminated


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "py4j", "great_expectations", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _document(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    if isinstance(result, list):
        return [_document(item) for item in result]
    if is_dataclass(result) and not isinstance(result, type):
        return asdict(result)
    return result


def _write_result(path: Path, result: Any) -> None:
    """The result of a stage as JSON, for the operator that started it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(_document(result), default=str) + "\n")
    temporary.rename(path)


if __name__ == "__main__":
    main()
