"""Calling the programs of a cluster's scheduler."""

import subprocess
from collections.abc import Mapping, Sequence

from persia_core.errors import EnvironmentProblem

CALL_TIMEOUT_S = 60.0


def call(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, text: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end with `text` on its standard input; its exit status is the caller's to judge.

    Raises EnvironmentProblem when it is not installed or does not answer.
    """
    try:
        return subprocess.run(
            list(command),
            env=None if environment is None else dict(environment),
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            timeout=CALL_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise EnvironmentProblem(
            f"{command[0]} is not installed on this host", "install it, or choose another airflow.back_end"
        ) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(
            f"{command[0]} has not answered within {CALL_TIMEOUT_S:.0f} s", "see whether the scheduler is up"
        ) from None


def refused(done: "subprocess.CompletedProcess[str]") -> EnvironmentProblem:
    """The error of a program that ended with another status than 0."""
    said = (done.stderr or done.stdout).strip() or "nothing"
    return EnvironmentProblem(
        f"{done.args[0]} ended with status {done.returncode} and said: {said}",
        "mend what it names, then try again",
    )
