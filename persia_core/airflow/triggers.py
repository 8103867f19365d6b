"""What the triggerer does for tasks that wait: it repeats a harmless command, or looks at a remote job.

Both may run twice at once, after a triggerer was replaced: looking changes nothing.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from persia_core.airflow.credentials import command_environment
from persia_core.config.home import project_dir

DONE = "done"
DEADLINE = "deadline"


class CommandTrigger(BaseTrigger):
    """Runs a `persia` command again and again until it ends with another exit code than `waiting`.

    :param program: arguments of the Python interpreter that make it `persia`.
    :param arguments: those of the command, which must only look.
    :param deadline: seconds since the epoch, when waiting ends.
    """

    def __init__(
        self,
        program: Sequence[str],
        arguments: Sequence[str],
        waiting: int,
        deadline: float,
        poll_s: float,
        s3_conn_id: str,
    ) -> None:
        super().__init__()
        self.program = list(program)
        self.arguments = list(arguments)
        self.waiting = waiting
        self.deadline = deadline
        self.poll_s = poll_s
        self.s3_conn_id = s3_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("program", "arguments", "waiting", "deadline", "poll_s", "s3_conn_id")
        return f"{__name__}.CommandTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: `done` when the command says something else, `deadline` when the time is over."""
        while True:
            await asyncio.sleep(max(0.0, min(self.poll_s, self.deadline - time.time())))
            code, said = await self._once()
            if code != self.waiting:
                yield TriggerEvent({"state": DONE})
                return
            if time.time() >= self.deadline:
                yield TriggerEvent({"state": DEADLINE})
                return
            self.log.info("still waiting: %s", said)

    async def _once(self) -> tuple[int, str]:
        try:
            connection = await Connection.async_get(self.s3_conn_id)
        except AirflowNotFoundException:
            connection = None
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self.program,
            *self.arguments,
            cwd=project_dir(),
            env=command_environment(connection),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, errors = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        lines = [line for line in errors.decode(errors="replace").splitlines() if "error: " in line]
        return process.returncode or 0, lines[-1].partition("error: ")[2] if lines else "no reason given"


class JobTrigger(BaseTrigger):
    """Looks at a remote job until it has ended, and passes its output on to the task's log.

    :param back_end: the section `airflow.back_end` of the configuration, as JSON.
    :param work: the working directory that the job's directory lies in.
    :param offset: bytes of the output that the log holds already.
    """

    def __init__(self, back_end: dict[str, Any], work: str, job: str, offset: int, poll_s: float) -> None:
        super().__init__()
        self.back_end = back_end
        self.work = work
        self.job = job
        self.offset = offset
        self.poll_s = poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("back_end", "work", "job", "offset", "poll_s")
        return f"{__name__}.JobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, with the bytes of output that were passed on."""
        from persia_core.airflow.following import Follower

        follower = Follower.of(self.back_end, Path(self.work), self.job, self.offset)
        while True:
            lines, active = await asyncio.to_thread(follower.look)
            for line in lines:
                self.log.info("%s", line)
            if not active:
                yield TriggerEvent({"state": DONE, "offset": follower.offset})
                return
            await asyncio.sleep(self.poll_s)

    async def on_kill(self) -> None:
        """The task was failed, cleared or marked by a person while it was deferred: end the job."""
        from persia_core.airflow.following import Follower

        follower = Follower.of(self.back_end, Path(self.work), self.job, self.offset)
        await asyncio.to_thread(follower.cancel)
