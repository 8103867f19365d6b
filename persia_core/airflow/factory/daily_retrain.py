"""The DAG `daily_retrain_<model>`: a day of raw clicks becomes a validated, promoted model."""

import os
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, CronPartitionTimetable, PartitionedAtRuntime, TaskGroup

from persia_core.airflow import assets, links, names
from persia_core.airflow.alerts import Alert, deadline
from persia_core.airflow.factory.models import ScheduledModel, scheduled_models
from persia_core.airflow.factory.texts import DAILY_RETRAIN, TASKS, daily_params
from persia_core.airflow.operators import PersiaOperator
from persia_core.airflow.partition import partition, run_name
from persia_core.airflow.training import MPITrainingOperator
from persia_core.airflow.waiting import WaitingOperator
from persia_core.exit_codes import ExitCode

DS = "{{ partition(dag_run, params) }}"
RUN = "{{ (ti.xcom_pull(task_ids='" + names.WAIT_FOR_TURN + "') or {}).get('run', '') }}"
VERSION = "{{ ti.xcom_pull(task_ids='" + names.PUBLISH + "')['version'] }}"
LOOK_TIMEOUT = timedelta(minutes=15)  # of a command that only looks
CLEAN_UP_TIMEOUT = timedelta(minutes=15)


def daily_retrain_dags(folder: Path) -> dict[str, DAG]:
    """DAG id -> DAG, one for each scheduled model in the folder of configurations."""
    return {names.daily_retrain(model.name): daily_retrain(model) for model in scheduled_models(folder)}


def daily_retrain(model: ScheduledModel) -> DAG:
    """The DAG of one model."""
    wanted = model.airflow
    dag = DAG(
        dag_id=names.daily_retrain(model.name),
        description=f"One day of {model.config.dataset.name} becomes a validated, promoted {model.name}",
        doc_md=DAILY_RETRAIN.format(model=model.name, file=model.file, dataset=model.config.dataset.name),
        schedule=schedule_of(wanted.schedule, wanted.partition_offset),
        catchup=wanted.catchup,
        max_active_runs=wanted.max_active_runs,
        tags=sorted({"persia", "daily", *wanted.tags}),
        owner_links={wanted.owner: wanted.owner_link} if wanted.owner_link else {},
        params=daily_params(),
        user_defined_macros={"partition": partition, "run_name": run_name},
        deadline=deadline(wanted.deadline_h, wanted.alert_connection) if wanted.deadline_h else None,
        default_args={
            "owner": wanted.owner,
            "on_failure_callback": Alert(wanted.alert_connection),
            "on_skipped_callback": Alert(wanted.alert_connection),
            "retries": wanted.retries,
            "retry_delay": timedelta(seconds=wanted.retry_delay_s),
        },
    )
    with dag:
        with TaskGroup("prepare", tooltip="From raw files to a hashed partition that passed its checks"):
            prepared = _prepare(model)
        with TaskGroup("train", tooltip="When it is the day's turn: one MPI job"):
            trained = _train(model)
        with TaskGroup("release", tooltip="From a trained day to the champion"):
            released = _release(model)
        cleaned = PersiaOperator(
            task_id=names.CLEAN_UP,
            command=["job", "end", "--config", model.file, "--ds", DS, f"--run={RUN}"],
            execution_timeout=CLEAN_UP_TIMEOUT,
            doc_md=TASKS[names.CLEAN_UP],
        ).as_teardown()
        chain = [*prepared, *trained, *released, cleaned]
        for before, after in pairwise(chain):
            before.set_downstream(after)
    return dag


def schedule_of(cron: str | None, partition_offset: int) -> Any:
    """The timetable: runs with a partition key by the clock, or only by hand.

    PERSIA_SCHEDULES=off takes the clock away, where nobody delivers partitions; backfills still know the
    partitions. (Airflow's own switch for it would also stop DAGs that wait for assets.)
    """
    if cron is None:
        return PartitionedAtRuntime()
    timetable: Any = CronPartitionTimetable
    if os.environ.get(names.SCHEDULES_VARIABLE) == "off":
        # Only an Airflow without a clock pays for this import of its core.
        from persia_core.airflow.timetable import BackfillOnlyTimetable as timetable
    return timetable(cron, timezone="UTC", run_offset=partition_offset, key_format="%Y-%m-%d")


def _task_id(name: str) -> str:
    """The id of a task inside its group."""
    return name.rpartition(".")[2]


def _prepare(model: ScheduledModel) -> list[Any]:
    wanted = model.airflow
    timeout = timedelta(hours=wanted.prepare_timeout_h)
    day = ["--config", model.file, "--ds", DS]
    return [
        WaitingOperator(
            task_id=_task_id(names.WAIT_FOR_RAW),
            command=["data", "landed", *day],
            waiting=ExitCode.PARTITION_MISSING,
            deadline=timedelta(hours=wanted.raw_deadline_h),
            poll=timedelta(seconds=wanted.poll_s),
            execution_timeout=LOOK_TIMEOUT,
            doc_md=TASKS[names.WAIT_FOR_RAW],
        ),
        _hash(model, day),
        PersiaOperator(
            task_id=_task_id(names.VALIDATE_PARTITION),
            command=["validate", "data", *day],
            partition=DS,
            outlets=[assets.hashed(model.config.dataset.name)],
            links=[links.DataDocs()],
            execution_timeout=timeout,
            doc_md=TASKS[names.VALIDATE_PARTITION],
        ),
    ]


def _hash(model: ScheduledModel, day: list[str]) -> Any:
    common: dict[str, Any] = {
        "task_id": _task_id(names.HASH_FEATURES),
        "pool": names.SPARK_POOL,
        "execution_timeout": timedelta(hours=model.airflow.prepare_timeout_h),
        "doc_md": TASKS[names.HASH_FEATURES],
    }
    if model.airflow.spark_connection is None:
        return PersiaOperator(command=["hash", *day], **common)
    # Only DAGs that submit pay for the import of the provider.
    from persia_core.airflow.spark_submit import HashSubmitOperator

    return HashSubmitOperator(
        conn_id=model.airflow.spark_connection,
        conf=dict(model.config.spark.settings),
        name=f"persia-hash-{model.name}",
        application_args=day,
        **common,
    )


def _train(model: ScheduledModel) -> list[Any]:
    wanted = model.airflow
    waits = wanted.earlier_days == "wait"
    return [
        WaitingOperator(
            task_id=_task_id(names.WAIT_FOR_TURN),
            command=[
                *("order", "--config", model.file, "--ds", DS),
                "{{ '--cold-start' if params.cold_start else '' }}",
                "{{ '--cold-start-dense' if params.cold_start_dense else '' }}",
                "{{ '--skip-earlier-days' if params.skip_earlier_days else '' }}",
                "{{ '--again=' ~ run_name(dag_run) if params.train_again else '' }}",
            ],
            waiting=ExitCode.EARLIER_DAY_MISSING,
            deadline=timedelta(hours=wanted.earlier_days_deadline_h if waits else 0),
            poll=timedelta(seconds=wanted.poll_s),
            execution_timeout=LOOK_TIMEOUT,
            doc_md=TASKS[names.WAIT_FOR_TURN],
        ),
        MPITrainingOperator(
            task_id=_task_id(names.MPI_JOB),
            command=[
                *("train", "--config", model.file, "--ds", DS, "--run", RUN),
                "{{ '--cold-start' if params.cold_start else '' }}",
                "{{ '--cold-start-dense' if params.cold_start_dense else '' }}",
            ],
            job=f"{model.name}-{DS}-{RUN}",
            model=model.name,
            partition=DS,
            run=RUN,
            links=[links.RankLogs(), links.TensorBoard()],
            tensorboard_url=wanted.tensorboard_url,
            back_end=wanted.back_end.model_dump(mode="json"),
            pool=names.CLUSTER_POOL,
            execution_timeout=timedelta(hours=wanted.train_timeout_h),
            doc_md=TASKS[names.MPI_JOB],
        ),
    ]


def _release(model: ScheduledModel) -> list[Any]:
    wanted = model.airflow
    timeout = timedelta(hours=wanted.release_timeout_h)
    version = ["--config", model.file, "--version", VERSION]
    skips = wanted.on_refusal == "skip"
    publish = PersiaOperator(
        task_id=_task_id(names.PUBLISH),
        command=["publish", "--config", model.file, "--ds", DS, "--run", RUN],
        partition=DS,
        outlets=[assets.candidate(model.name)],
        model=model.name,
        links=_of_a_version(),
        execution_timeout=timeout,
        doc_md=TASKS[names.PUBLISH],
    )
    validate = PersiaOperator(
        task_id=_task_id(names.VALIDATE_MODEL),
        command=["validate", "model", *version],
        skip_on=[ExitCode.GATE_REFUSED] if skips else [],
        model=model.name,
        links=_of_a_version(),
        execution_timeout=timeout,
        doc_md=TASKS[names.VALIDATE_MODEL],
    )
    promote = PersiaOperator(
        task_id=_task_id(names.PROMOTE),
        command=["promote", *version],
        partition=DS,
        outlets=[assets.champion(model.name)],
        model=model.name,
        links=_of_a_version(),
        skip_on=[ExitCode.PROMOTION_REFUSED] if skips else [],
        execution_timeout=timeout,
        doc_md=TASKS[names.PROMOTE],
    )
    return [publish, validate, *([_approve(model)] if wanted.approval else []), promote]


def _of_a_version() -> list[links.PageLink]:
    return [links.RunReport(), links.ModelVersion()]


def _approve(model: ScheduledModel) -> Any:
    # Only DAGs that ask people pay for this import.
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    return ApprovalOperator(
        task_id=_task_id(names.APPROVE),
        subject=f"Make {VERSION} the champion of {model.name}?",
        body=f"It passed the gate on {DS}. `persia models show --config {model.file} --version {VERSION}` "
        "prints its metrics and verdict. Reject leaves the champion where it is.",
        response_timeout=timedelta(hours=model.airflow.approval_deadline_h),
        retries=0,
        doc_md=TASKS[names.APPROVE],
    )
