"""What is told to people who do not look at the UI: a task failed, the gate refused, a run is late."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseNotifier, conf
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from persia_core.airflow.failure import FAILURE_KEY
from persia_core.exit_codes import ExitCode

TASK_FAILED = "task_failed"
GATE_REFUSED = "gate_refused"  # or the pointer
DEADLINE_MISSED = "deadline_missed"

_REFUSALS = (ExitCode.GATE_REFUSED.name, ExitCode.PROMOTION_REFUSED.name)
TIMEOUT_S = 30


class Alert(BaseNotifier):
    """Writes the message to the log, and posts it as JSON to a connection of Airflow if one is named.

    Fields: `text`, a sentence for people; `event`; `dag`, `run`, `day`; of tasks also `task`, `try`, `name`
    of the exit code, `what` and `what_to_do`; `url` of the task or run in the UI, if `api.base_url` is set.

    :param connection: of type http: its host is the URL to post to; login, password and extra (headers) are
        sent as the HTTP provider of Airflow sends them. None: the log only.
    """

    def __init__(self, connection: str | None = None, context: Any = None) -> None:
        super().__init__(context)
        self.connection = connection

    def notify(self, context: Any) -> None:
        """In the process of a task, or the DAG processor if that died."""
        message = self.message(context)
        self.log.warning("alert: %s", message["text"])
        if self.connection is not None:
            self._http(message).notify(context)

    async def async_notify(self, context: Any) -> None:
        """In the triggerer."""
        message = self.message(context)
        self.log.warning("alert: %s", message["text"])
        if self.connection is not None:
            await self._http(message).async_notify(context)

    def message(self, context: Any) -> dict[str, Any]:
        """Of a task that failed, or was skipped because it was refused."""
        task = context["ti"]
        failure = task.xcom_pull(task_ids=task.task_id, key=FAILURE_KEY, map_indexes=task.map_index)
        if not isinstance(failure, Mapping):  # it ended before its command did
            failure = {"what": str(context.get("exception") or "it was ended from outside")}
        refused = failure.get("name") in _REFUSALS
        day = context["dag_run"].partition_key or (context.get("params") or {}).get("ds")
        what, remedy = failure.get("what"), failure.get("what_to_do")
        verb = "refused" if refused else "failed"
        text = f"{task.dag_id}, {day or task.run_id}: {task.task_id} {verb}: {what}"
        return {
            "text": f"{text}; what to do: {remedy}" if remedy else text,
            "event": GATE_REFUSED if refused else TASK_FAILED,
            "dag": task.dag_id,
            "run": task.run_id,
            "day": day,
            "task": task.task_id,
            "try": task.try_number,
            "name": failure.get("name"),
            "what": what,
            "what_to_do": remedy,
            "url": _url(task.dag_id, task.run_id, task.task_id),
        }

    def _http(self, message: dict[str, Any]) -> Any:
        from airflow.providers.http.notifications import HttpNotifier  # slow to import, at every parse

        return HttpNotifier(http_conn_id=self.connection, json=message, extra_options={"timeout": TIMEOUT_S})


class DeadlineAlerted(Alert):
    """The same of a run that is not done in time. Airflow gives it no task, only the run, as JSON."""

    def message(self, context: Any) -> dict[str, Any]:
        run = context["dag_run"]
        dag, run_id = run["dag_id"], run["dag_run_id"]
        day = run.get("partition_key") or (run.get("conf") or {}).get("ds")
        return {
            "text": f"{dag}, {day or run_id}: not done in time, it is {run.get('state')}; what to do: look "
            "which task it is at, and why",
            "event": DEADLINE_MISSED,
            "dag": dag,
            "run": run_id,
            "day": day,
            "url": _url(dag, run_id),
        }


def deadline(hours: float, connection: str | None) -> DeadlineAlert:
    """An alert on each run that is not done so long after it was queued."""
    return DeadlineAlert(
        name="not done in time",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=hours),
        callback=AsyncCallback(DeadlineAlerted, kwargs={"connection": connection}),
    )


def _url(dag: str, run: str, task: str | None = None) -> str | None:
    base = conf.get("api", "base_url", fallback=None)
    if not base:
        return None
    of_task = f"/tasks/{quote(task)}" if task else ""
    return f"{base.rstrip('/')}/dags/{quote(dag)}/runs/{quote(run)}{of_task}"
