"""What becomes of an exit code: try again, fail at once, or skip what comes after."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from persia_core.exit_codes import ExitCode, is_retryable

FAILURE_KEY = "failure"  # of the XCom that says why a task failed


def failure_of(
    context: Any, arguments: Sequence[str], code: int, tail: Iterable[str], skip_on: Collection[int] = ()
) -> Exception:
    """The exception of a command that ended with `code`; its name, what was wrong and what to do about it.

    The same goes to the XCom `failure`, where the UI shows it beside the task. A code that a retry can mend
    becomes an AirflowException, one of `skip_on` an AirflowSkipException, every other an
    AirflowFailException.
    """
    name = (
        ExitCode(code).name if code in set(ExitCode) else f"signal {code - 128}" if code > 128 else "unknown"
    )
    lines = list(tail)
    what = next((m[1] for line in reversed(lines) if (m := re.match(r"\s*error: (.*)", line))), None)
    remedy = next((m[1] for line in reversed(lines) if (m := re.match(r"\s*what to do: (.*)", line))), None)
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    message = f"persia {' '.join(arguments)}: exit code {code} ({name})\n{what or last}"
    if what and remedy:
        message += f"; what to do: {remedy}"
    if (task_instance := context.get("ti")) is not None:
        reason = {"exit_code": code, "name": name, "what": what or last, "what_to_do": remedy}
        task_instance.xcom_push(FAILURE_KEY, reason)
    if code in skip_on:
        return AirflowSkipException(message)
    return AirflowException(message) if is_retryable(code) else AirflowFailException(message)
