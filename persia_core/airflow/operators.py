"""The operator behind every task: one `persia` command, as a process of its own."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from persia_core.exit_codes import ExitCode, is_retryable

TAIL_LINES = 200  # of the output, searched for the error and its remedy


class PersiaOperator(BaseOperator):
    """Runs `persia <command>` and pushes its JSON result to XCom.

    An exit code that a retry can mend (`persia_core.exit_codes.is_retryable`) becomes an AirflowException,
    every other one an AirflowFailException. When the task is killed, cleared or dies in any way, every
    process of the command is ended with it (`persia_core.launch.guard`).

    :param command: arguments of the `persia` command, templated; those that render to nothing are left out.
    :param s3_conn_id: an Airflow connection of type aws that holds the credentials of the object store. They
        reach the command through its environment only. Without such a connection boto3's own chain decides.
    """

    template_fields: Sequence[str] = ("command",)
    template_fields_renderers = {"command": "json"}  # noqa: RUF012  (Airflow's own declaration)
    ui_color = "#e8f0fe"
    program: Sequence[str] = ("-m", "persia_core.cli")  # arguments of the Python interpreter

    def __init__(self, *, command: Sequence[str], s3_conn_id: str = "persia_s3", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.command = list(command)
        self.s3_conn_id = s3_conn_id
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> Any:
        """Run the command to its end; returns the content of its result file (None if it wrote none)."""
        arguments = [argument for argument in self.command if argument]
        with tempfile.TemporaryDirectory(prefix="persia-task-") as scratch:
            result_file = Path(scratch) / "result.json"
            command = [sys.executable, *self.program, *arguments, "--result-file", str(result_file)]
            self.log.info("persia %s", " ".join(arguments))
            code, tail = self._run(command)
            if code != ExitCode.OK:
                raise _failure(arguments, code, tail)
            return json.loads(result_file.read_text(encoding="utf-8")) if result_file.exists() else None

    def on_kill(self) -> None:
        """Break the life line: the guard ends every process of the command, even if this one dies first."""
        process = self._process
        if process is not None and process.stdin is not None:
            self.log.info("stopping the command and every process that it started")
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _run(self, command: list[str]) -> tuple[int, list[str]]:
        guarded = [sys.executable, "-m", "persia_core.launch.guard", *command]
        process = subprocess.Popen(
            guarded,
            cwd=os.environ.get("PERSIA_PROJECT") or Path.cwd(),
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a signal to the task's group must not reach the guard
            encoding="utf-8",
            errors="replace",
        )
        self._process = process
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        try:
            if process.stdout is None:
                raise AssertionError("stdout was asked for as a pipe")
            for line in process.stdout:
                tail.append(line.rstrip("\n"))
                self.log.info("%s", tail[-1])
            return process.wait(), list(tail)
        finally:
            if process.poll() is None:
                self.on_kill()
            self._process = None

    def _environment(self) -> dict[str, str]:
        """This process's environment without Airflow's own settings, with the connection's credentials."""
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW__", "AIRFLOW_CONN_"))
        }
        environment["PYTHONUNBUFFERED"] = "1"
        try:
            connection = Connection.get(self.s3_conn_id)
        except AirflowNotFoundException:
            self.log.info("no connection %s: credentials are left to boto3's own chain", self.s3_conn_id)
            return environment
        extra = connection.extra_dejson
        given = {
            "AWS_ACCESS_KEY_ID": connection.login,
            "AWS_SECRET_ACCESS_KEY": connection.password,
            "AWS_SESSION_TOKEN": extra.get("aws_session_token"),
            "AWS_DEFAULT_REGION": extra.get("region_name"),
            "PERSIA_S3_ENDPOINT": extra.get("endpoint_url"),
        }
        return environment | {name: value for name, value in given.items() if value}


def _failure(arguments: Sequence[str], code: int, tail: Iterable[str]) -> AirflowException:
    """The exception of a failed command: its exit code by name, what was wrong and what to do about it."""
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
    return AirflowException(message) if is_retryable(code) else AirflowFailException(message)
