"""Driving one DAG of the local Airflow by its REST API."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from persia_core.errors import EnvironmentProblem, PersiaError

POLL_S = 0.5
STILL_EVERY_S = 10.0
LOG_LINES = 30
FINISHED = ("success", "failed")
SHOWN = ("running", "deferred", "success", "failed", "up_for_retry", "upstream_failed", "skipped")


class AirflowClient:
    """Calls to one DAG. `home` is the platform's directory, where the task logs are."""

    def __init__(self, url: str, home: Path, dag_id: str) -> None:
        self._url = url
        self._logs = home / "airflow" / "logs"
        self._dag = dag_id
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback only
        self._token = str(self._call("GET", "/auth/token")["access_token"])

    def wait_for_dag(self, timeout_s: float = 60.0) -> None:
        """Wait until the DAG is there, and unpause it. Raises EnvironmentProblem with its import error."""
        deadline = time.monotonic() + timeout_s
        while True:
            errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
            if errors:
                raise EnvironmentProblem(
                    f"{errors[0]['filename']} cannot be imported:\n{errors[0]['stack_trace']}",
                    "mend the file",
                )
            try:
                self._call("PATCH", f"/api/v2/dags/{self._dag}", {"is_paused": False})
                return
            except _NoSuchThing:
                if time.monotonic() > deadline:
                    raise EnvironmentProblem(
                        f"Airflow knows no DAG {self._dag} after {timeout_s:.0f} s",
                        f"look into {self._logs.parent.parent / 'logs' / 'dag-processor.log'}",
                    ) from None
            time.sleep(POLL_S)

    def trigger(self, run_id: str, partition_key: str | None, params: dict[str, Any]) -> None:
        """Start a run for a partition (None: the params say which)."""
        body = {
            "dag_run_id": run_id,
            "logical_date": None,
            "partition_key": partition_key,
            "conf": params,
        }
        self._call("POST", f"/api/v2/dags/{self._dag}/dagRuns", body)

    def wait(self, run_id: str, timeout_s: float, say: Callable[[str], None]) -> None:
        """Wait for a run to end, saying every change of a task's state.

        Raises PersiaError with the failed task, the end of its log and where that is.
        """
        begun = time.monotonic()
        said = begun
        known: dict[str, tuple[str | None, int]] = {}
        since: dict[str, float] = {}
        while True:
            run = self._call("GET", f"/api/v2/dags/{self._dag}/dagRuns/{quote(run_id)}")
            tasks = self._call("GET", f"/api/v2/dags/{self._dag}/dagRuns/{quote(run_id)}/taskInstances")
            now = time.monotonic()
            for task in sorted(tasks["task_instances"], key=lambda t: t["start_date"] or "9"):
                name, state = task["task_id"], (task["state"], task["try_number"])
                if known.get(name) == state:
                    continue
                known[name] = state
                took = f" in {now - since[name]:.0f} s" if name in since and state[0] in FINISHED else ""
                since[name] = now
                if state[0] in SHOWN:
                    retry = f" (try {state[1]})" if state[1] > 1 else ""
                    say(f"  {now - begun:4.0f} s  {name}: {state[0]}{took}{retry}")
                    said = now
            if run["state"] in FINISHED:
                break
            if now - begun > timeout_s:
                raise PersiaError(
                    f"run {run_id} has not ended after {timeout_s:.0f} s", f"look at it in {self._url}"
                )
            if now - said > STILL_EVERY_S:
                running = [f"{n} still running" for n, (state, _) in known.items() if state == "running"]
                say(f"  {now - begun:4.0f} s  {', '.join(running) or 'waiting for the scheduler'}")
                said = now
            time.sleep(POLL_S)
        if run["state"] != "success":
            failed = [task for task in tasks["task_instances"] if task["state"] == "failed"]
            raise self._failure(run_id, failed[0] if failed else None)

    def fail_task(self, run_id: str, task_id: str) -> None:
        """Mark a task as failed, which kills it if it runs: the same call as the button in the UI makes."""
        path = f"/api/v2/dags/{self._dag}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
        self._call("PATCH", path, {"new_state": "failed"})

    def clear(self, run_id: str, task_ids: list[str] | None = None) -> None:
        """Let a run go again: these tasks and all that depend on them, or all of its tasks."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "only_failed": False,
            "include_downstream": True,
            **({} if task_ids is None else {"task_ids": task_ids}),
        }
        self._call("POST", f"/api/v2/dags/{self._dag}/clearTaskInstances", body)

    def task_states(self, run_id: str) -> dict[str, str | None]:
        """Task id -> state."""
        path = f"/api/v2/dags/{self._dag}/dagRuns/{quote(run_id)}/taskInstances"
        return {task["task_id"]: task["state"] for task in self._call("GET", path)["task_instances"]}

    def run_state(self, run_id: str) -> str:
        """The state of a run."""
        return str(self._call("GET", f"/api/v2/dags/{self._dag}/dagRuns/{quote(run_id)}")["state"])

    def run_ids(self) -> list[str]:
        """The runs of the DAG, newest first."""
        runs = self._call("GET", f"/api/v2/dags/{self._dag}/dagRuns?order_by=-run_after&limit=100")
        return [str(run["dag_run_id"]) for run in runs["dag_runs"]]

    def backfilled(self) -> dict[str, str]:
        """Partition key -> run id, of the runs that backfills have made."""
        runs = self._call("GET", f"/api/v2/dags/{self._dag}/dagRuns?run_type=backfill&limit=100")
        return {str(run["partition_key"]): str(run["dag_run_id"]) for run in runs["dag_runs"]}

    def result(self, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """What a task of a run returned (its XCom), or left under another key."""
        run = f"/api/v2/dags/{self._dag}/dagRuns/{quote(run_id)}"
        value = self._call("GET", f"{run}/taskInstances/{task_id}/xcomEntries/{key}")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def _failure(self, run_id: str, task: dict[str, Any] | None) -> PersiaError:
        if task is None:
            return PersiaError(f"run {run_id} failed before any task did", f"look at it in {self._url}")
        name = task["task_id"]
        log = (
            self._logs / f"dag_id={self._dag}" / f"run_id={run_id}" / f"task_id={name}"
        ) / f"attempt={task['try_number']}.log"
        end = "\n".join(f"    {line}" for line in _log_lines(log)[-LOG_LINES:])
        return PersiaError(
            f"task {name} of run {run_id} failed; the end of its log:\n{end}",
            f"the whole log is {log}",
        )

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if path != "/auth/token":
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=headers, method=method)  # noqa: S310
        for last in (False, False, True):  # a busy machine may drop a connection; only GET is repeated
            try:
                with self._opener.open(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    raise _NoSuchThing(path) from error
                text = error.read().decode(errors="replace")
                raise PersiaError(
                    f"{method} {self._url}{path}: HTTP {error.code}: {text[:500]}",
                    "look into the platform's api-server.log",
                ) from error
            except OSError as error:
                if last or method != "GET":
                    raise EnvironmentProblem(
                        f"Airflow at {self._url} does not answer: {error}", "see `persia platform status`"
                    ) from error
                time.sleep(1.0)
        raise AssertionError("unreachable")


class _NoSuchThing(Exception):
    """HTTP 404."""


def _log_lines(path: Path) -> list[str]:
    """The messages of a task log (a JSON document per line), plain lines as they are."""
    if not path.exists():
        return [f"(no log at {path})"]
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            lines.append(line)
            continue
        event = str(entry.get("event", line))
        if not event.startswith("::"):  # marks of foldable groups, for the UI
            lines.append(event)
        for detail in entry.get("error_detail") or []:
            lines.extend(f"{detail.get('exc_type')}: {detail.get('exc_value')}".splitlines())
    return lines
