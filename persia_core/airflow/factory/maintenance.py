"""The DAGs around the daily retrain: roll a model back, keep house, train a model for the first time."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, TaskGroup
from airflow.sdk.exceptions import AirflowFailException

from persia_core.airflow import assets, names
from persia_core.airflow.factory.daily_retrain import schedule_of
from persia_core.airflow.factory.maintenance_texts import (
    BOOTSTRAP,
    CONSUMER,
    DAY,
    HOUSEKEEPING,
    ROLLBACK,
    VERSION_PATTERN,
)
from persia_core.airflow.factory.models import scheduled_models
from persia_core.airflow.operators import PersiaOperator

TIMEOUT = timedelta(hours=1)
DEFAULTS = {"owner": "persia", "retries": 1, "retry_delay": timedelta(minutes=1)}
TAGS = ["persia", "maintenance"]
CONFIG = "{{ configs[params.model] }}"
APPLY = "{{ '--apply' if params.apply else '' }}"


def rollback_model(folder: Path) -> DAG:
    """One task: the champion of the model becomes an earlier version. The reason is kept with the pointer."""
    configs = _configs(folder)
    with DAG(
        dag_id=names.ROLLBACK_DAG,
        description="Make an earlier version the champion again, with a reason",
        doc_md=ROLLBACK,
        schedule=None,
        max_active_runs=1,
        tags=TAGS,
        params={
            "model": _model_param(configs),
            "version": Param(
                type="string",
                pattern=f"^{VERSION_PATTERN}$",
                title="Version",
                description="The version to go back to, as `persia models list` names it.",
            ),
            "reason": Param(
                type="string",
                minLength=10,
                maxLength=500,
                pattern=r"\S",
                title="Reason",
                description="Why. It stays with the pointer for whoever asks later. At least ten characters.",
            ),
        },
        user_defined_macros={"configs": configs},
        default_args=DEFAULTS | {"retries": 0},
    ) as dag:
        PersiaOperator(
            task_id="roll_back",
            command=[
                *("rollback", "--config", CONFIG, "--version", "{{ params.version }}"),
                "--reason={{ params.reason }}",
                "--who={{ dag_run.triggering_user_name or 'airflow' }}",
            ],
            execution_timeout=TIMEOUT,
            doc_md="Verifies that the version is still whole, then moves the pointer by compare-and-swap.",
        )
    return dag


def housekeeping(folder: Path) -> DAG:
    """For each model: retention and abandoned uploads; then what crashed jobs left on this host."""
    with DAG(
        dag_id="housekeeping",
        description="Retention, abandoned uploads, left-over files and shared memory",
        doc_md=HOUSEKEEPING,
        schedule=schedule_of("30 5 * * *", 0),
        catchup=False,
        max_active_runs=1,
        tags=TAGS,
        params={
            "apply": Param(
                True,
                type="boolean",
                title="Delete",
                description="Off: the tasks only show what they would delete.",
            )
        },
        default_args=DEFAULTS,
    ) as dag:
        for model in scheduled_models(folder):
            with TaskGroup(model.name):
                retire = PersiaOperator(
                    task_id="retire",
                    command=["retire", "--config", model.file, APPLY],
                    execution_timeout=TIMEOUT,
                    doc_md="Deletes versions and checkpoints that the retention policy of the configuration "
                    "does not keep. The champion and what can still be needed always stay.",
                )
                sweep = PersiaOperator(
                    task_id="sweep",
                    command=["sweep", "--config", model.file, APPLY],
                    execution_timeout=TIMEOUT,
                    doc_md="Removes uploads that were begun and never finished: parts without a manifest.",
                )
                retire.set_downstream(sweep)
        PersiaOperator(
            task_id="clean",
            command=["clean", "{{ '--yes' if params.apply else '' }}"],
            has_result=False,
            execution_timeout=TIMEOUT,
            doc_md="Removes what killed jobs left on this host, working directories and shared memory, and "
            "logs and curves of published runs after `retention.run_files_days`. "
            "On several hosts, run `persia clean` on each by cron.",
        )
    return dag


def bootstrap_model(folder: Path) -> DAG:
    """The first training over a range of days: a run of the daily retrain for each, in order."""
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

    from persia_core.airflow.factory.bootstrap import DayRuns

    configs = _configs(folder)
    with DAG(
        dag_id="bootstrap_model",
        description="Train a model for the first time, over a range of days",
        doc_md=BOOTSTRAP,
        schedule=None,
        max_active_runs=1,
        tags=TAGS,
        params={
            "model": _model_param(configs),
            "first": Param(
                type="string", format="date", title="First day", description=f"{DAY} A cold start."
            ),
            "last": Param(type="string", format="date", title="Last day", description=f"{DAY} Included."),
        },
        user_defined_macros={"configs": configs},
        default_args=DEFAULTS,
    ) as dag:
        days = DayRuns(
            task_id="list_days",
            command=[
                *("data", "days", "--config", CONFIG),
                *("--first", "{{ params.first }}", "--last", "{{ params.last }}"),
            ],
            execution_timeout=TIMEOUT,
            doc_md="The days of the range that have landed, in order. Fails when there is none.",
        )
        TriggerDagRunOperator.partial(
            task_id="train_day",
            trigger_dag_id=names.daily_retrain("{{ params.model }}"),
            logical_date=None,
            wait_for_completion=True,
            reset_dag_run=True,
            deferrable=True,
            poke_interval=10,
            max_active_tis_per_dagrun=1,
            retries=0,
            doc_md="A run of the daily retrain for one day, waited for without a worker slot. The next "
            "day continues from it.",
        ).expand_kwargs(days.output)
    return dag


def champion_consumer(folder: Path, model: str) -> DAG | None:
    """An example: runs whenever a version of the model becomes champion. None if there is no such model."""
    found = next((m for m in scheduled_models(folder) if m.name == model), None)
    if found is None:
        return None
    from airflow.sdk import PartitionedAssetTimetable

    champion = assets.champion(model)
    with DAG(
        dag_id=f"example_consumer_{model}",
        description=f"An example of what may follow a new champion of {model}",
        doc_md=CONSUMER.format(model=model),
        schedule=PartitionedAssetTimetable(assets=champion),
        catchup=False,
        max_active_runs=1,
        tags=["persia", "example"],
        params={
            "version": Param(
                "",
                type="string",
                pattern=rf"^({VERSION_PATTERN})?$",
                title="Version",
                description="Only for runs by hand: those that a champion starts know its version.",
            )
        },
        user_defined_macros={"version_of": _version_of},
        default_args=DEFAULTS,
    ) as dag:
        PersiaOperator(
            task_id="show_champion",
            command=[
                *("models", "show", "--config", found.file),
                *("--version", "{{ params.version or version_of(triggering_asset_events) }}"),
            ],
            inlets=[champion],
            execution_timeout=TIMEOUT,
            doc_md="Prints the metrics, the lineage and the verdict of the version that the event names. "
            "Put what your consumers need here.",
        )
    return dag


def _version_of(events: Any) -> str:
    """The version in the newest of the asset events that started a run."""
    found = [event for some in events.values() for event in some if event.extra.get("version")]
    if not found:
        raise AirflowFailException("no event names a version; to run this by hand, give the param version")
    return str(found[-1].extra["version"])


def _configs(folder: Path) -> dict[str, str]:
    return {model.name: model.file for model in scheduled_models(folder)}


def _model_param(configs: dict[str, str]) -> Param:
    return Param(
        type="string",
        enum=sorted(configs),
        title="Model",
        description="One of the models that have a DAG daily_retrain_<model>.",
    )
