"""A task that waits for something without holding a worker slot, and not for ever."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from persia_core.airflow.failure import failure_of
from persia_core.airflow.operators import PersiaOperator
from persia_core.airflow.triggers import DEADLINE, CommandTrigger
from persia_core.exit_codes import ExitCode


class WaitingOperator(PersiaOperator):
    """Runs a `persia` command; while that ends with the exit code `waiting`, the triggerer repeats it.

    The command must only look. When it says something else, the task comes back, runs it once more, and ends
    as a PersiaOperator does.

    :param waiting: the exit code that means "not yet".
    :param deadline: how long to wait. Then the task fails with what the command said last.
    :param poll: time between two looks.
    """

    template_fields: Sequence[str] = PersiaOperator.template_fields

    def __init__(self, *, waiting: int, deadline: timedelta, poll: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.waiting = int(waiting)
        self.deadline = deadline
        self.poll = poll

    def execute(self, context: Any) -> Any:
        return self._look(context, time.time() + self.deadline.total_seconds())

    def resume(self, context: Any, event: dict[str, Any], deadline: float) -> Any:
        """Go on after the trigger's event."""
        if event["state"] == DEADLINE:
            deadline = 0.0
        return self._look(context, deadline)

    def _look(self, context: Any, deadline: float) -> Any:
        code, tail, result = self.run_command()
        if code == ExitCode.OK:
            self.record_assets(context, result)
            return result
        late = time.time() >= deadline
        if code != self.waiting or late:
            failure = failure_of(context, self.arguments(), code, tail, self.skip_on)
            if code != self.waiting:
                raise failure
            hours = self.deadline.total_seconds() / 3600
            raise AirflowFailException(f"waited for {hours:g} h in vain: {failure}")
        self.log.info("waiting, until %s at the latest", time.strftime("%F %T UTC", time.gmtime(deadline)))
        self.defer(
            trigger=CommandTrigger(
                program=list(self.program),
                arguments=self.arguments(),
                waiting=self.waiting,
                deadline=deadline,
                poll_s=self.poll.total_seconds(),
                s3_conn_id=self.s3_conn_id,
            ),
            method_name="resume",
            kwargs={"deadline": deadline},
        )
