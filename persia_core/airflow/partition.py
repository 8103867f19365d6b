"""Which logical day an Airflow run works on, and what its training run is called.

The only place that decides either. DAG files use both functions as template macros.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Protocol

from persia_core.handoff.layout import check_ds, check_name

RUN_NAME_STEM = 100  # characters kept of the Airflow run id; the digest after them keeps names distinct


class DagRun(Protocol):
    """The two fields of Airflow's DagRun that are read here."""

    run_id: str
    partition_key: str | None


def partition(dag_run: DagRun, params: Mapping[str, Any]) -> str:
    """The partition `YYYY-MM-DD` of a run: its partition key, else the param `ds`.

    Never the clock: a run started twice, or a month late, must work on the same day. Raises
    AirflowFailException (no retry can help) when there is neither, when they differ, or when it is no date.
    """
    key = dag_run.partition_key
    param = params.get("ds")
    if key and param and key != param:
        raise _refuse(f"the run has partition key {key!r} and param ds {param!r}; trigger it with only one")
    ds = key or param
    if not ds:
        raise _refuse(
            "the run names no partition; trigger it with a partition key, or with the param ds, "
            'for example {"ds": "2026-11-20"}'
        )
    try:
        return check_ds(str(ds))
    except ValueError as error:
        raise _refuse(f"{error}; trigger the run again with a date such as 2026-11-20") from error


def run_name(dag_run: DagRun) -> str:
    """The name of the training run that belongs to an Airflow run: equal for every try of every task.

    Safe as one path component (`layout.check_name`), and different for different Airflow run ids.
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", dag_run.run_id).strip("-_")[:RUN_NAME_STEM] or "run"
    digest = hashlib.sha256(dag_run.run_id.encode()).hexdigest()[:8]
    return check_name("run", f"{stem}-{digest}")


def _refuse(message: str) -> Exception:
    from airflow.sdk.exceptions import AirflowFailException

    return AirflowFailException(message)
