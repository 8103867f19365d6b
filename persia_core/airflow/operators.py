"""The operator behind every task: one `persia` command, as a process of its own."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator

from persia_core.airflow import links as buttons
from persia_core.airflow.credentials import environment_of_connections
from persia_core.airflow.failure import failure_of
from persia_core.airflow.names import S3_CONNECTION
from persia_core.config.home import project_dir
from persia_core.exit_codes import ExitCode

TAIL_LINES = 200  # of the output, searched for the error and its remedy
ASSET_EXTRA = ("version", "digest", "previous", "uri")  # of a result, told to those who listen to the asset


class PersiaOperator(BaseOperator):
    """Runs `persia <command>` and pushes its JSON result to XCom.

    An exit code that a retry can mend (`persia_core.exit_codes.is_retryable`) becomes an AirflowException,
    every other one an AirflowFailException. When the task is killed, cleared or dies in any way, every
    process of the command is ended with it (`persia_core.launch.guard`).

    :param command: arguments of the `persia` command, templated; those that render to nothing are left out.
    :param partition: the logical day, templated, under which the assets in `outlets` are recorded. A run that
        was triggered by hand has no partition key of its own, and a consumer could not be started without
        one.
    :param has_result: the command takes `--result-file`.
    :param model: the name of the model that the command works on, for the addresses of `links`.
    :param links: buttons beside the task in the UI. Their addresses come from the result of the command, of
        one that failed, too.
    :param skip_on: exit codes that skip this task and what depends on it, instead of failing the run.
    :param s3_conn_id: an Airflow connection of type aws that holds the credentials of the object store. They
        reach the command through its environment only. Without such a connection boto3's own chain decides.
    """

    template_fields: Sequence[str] = ("command", "partition")
    template_fields_renderers = {"command": "json"}  # noqa: RUF012  (Airflow's own declaration)
    ui_color = "#e8f0fe"
    program: Sequence[str] = ("-m", "persia_core.cli")  # arguments of the Python interpreter

    def __init__(
        self,
        *,
        command: Sequence[str],
        partition: str = "",
        has_result: bool = True,
        skip_on: Sequence[int] = (),
        model: str = "",
        links: Sequence[buttons.PageLink] = (),
        s3_conn_id: str = S3_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.command = list(command)
        self.partition = partition
        self.has_result = has_result
        self.skip_on = [int(code) for code in skip_on]
        self.model = model
        self.operator_extra_links = tuple(links)
        self.addresses: dict[str, str] = {}
        self.s3_conn_id = s3_conn_id
        self._process: subprocess.Popen[str] | None = None
        self._result: Any = None

    def execute(self, context: Any) -> Any:
        """Run the command to its end; returns the content of its result file (None if it wrote none)."""
        code, tail, result = self.run_command()
        if code != ExitCode.OK:
            raise failure_of(context, self.arguments(), code, tail, self.skip_on)
        self.record_assets(context, result)
        return result

    def on_kill(self) -> None:
        """Break the life line: the guard ends every process of the command, even if this one dies first."""
        process = self._process
        if process is not None and process.stdin is not None:
            self.log.info("stopping the command and every process that it started")
            with contextlib.suppress(OSError):
                process.stdin.close()

    def arguments(self) -> list[str]:
        """The arguments of the command, once they are rendered."""
        return [argument for argument in self.command if argument]

    def run_command(self) -> tuple[int, list[str], Any]:
        """Its exit code, the end of its output, and its result; a command that failed may leave one too."""
        arguments = self.arguments()
        with tempfile.TemporaryDirectory(prefix="persia-task-") as scratch:
            result_file = Path(scratch) / "result.json"
            wanted = ["--result-file", str(result_file)] if self.has_result else []
            command = [sys.executable, *self.program, *arguments, *wanted]
            self.log.info("persia %s", " ".join(arguments))
            code, tail = self._run(command)
            there = result_file.exists()
            result = json.loads(result_file.read_text(encoding="utf-8")) if there else None
            self.addresses = buttons.of_result(self.model, result)
            return code, tail, result

    def record_assets(self, context: Any, result: Any) -> None:
        """Name the day of the assets that this task makes, and which version or digest it is."""
        self._result = result
        for asset in self.outlets:
            event = context["outlet_events"][asset]
            if self.partition:
                event.add_partitions(self.partition)
            if isinstance(result, Mapping):
                event.extra.update({name: result[name] for name in ASSET_EXTRA if result.get(name)})

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Asked by Airflow's OpenLineage provider, if it is installed and configured."""
        from persia_core.airflow.openlineage import facets_of

        return facets_of(self.arguments(), self._result)

    def environment(self) -> dict[str, str]:
        """The environment of the command, with the credentials of the connections."""
        return environment_of_connections(self.s3_conn_id)

    def _run(self, command: list[str]) -> tuple[int, list[str]]:
        guarded = [sys.executable, "-m", "persia_core.launch.guard", *command]
        process = subprocess.Popen(
            guarded,
            cwd=project_dir(),
            env=self.environment(),
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
