"""How Airflow retrains a model. A configuration without this section gets no DAG."""

from typing import Annotated, Literal

from pydantic import Field

from persia_core.config.back_end import BackEnd, LocalBackEnd
from persia_core.config.base import Section

Hours = Annotated[float, Field(gt=0)]


class AirflowSection(Section):
    """The DAG `daily_retrain_<name>`."""

    schedule: str | None = "0 3 * * *"  # cron, UTC; null: only by hand or by REST
    partition_offset: Annotated[int, Field(le=0)] = -1  # of the run's partition, in steps of the schedule
    catchup: bool = False  # make up for scheduled days that passed while the DAG was paused
    max_active_runs: Annotated[int, Field(ge=1)] = 8  # runs that wait for their turn count too
    owner: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")] = "persia"
    owner_link: Annotated[str, Field(pattern=r"^(https?://|mailto:)\S+$")] | None = None
    tags: tuple[str, ...] = ()

    # An Airflow connection of type http that alerts are posted to; null: they are in the logs only.
    alert_connection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")] | None = None
    deadline_h: Hours | None = None  # after a run was queued, until an alert says that it is not done
    # Of a TensorBoard that shows PERSIA_HOME/work.
    tensorboard_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] | None = None

    # An Airflow connection of type spark, with the master that hash_features is submitted to by spark-submit;
    # null: `persia hash` starts Spark itself, where the section `spark` says.
    spark_connection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")] | None = None

    poll_s: Annotated[float, Field(gt=0)] = 60.0  # between two looks while a task waits
    raw_deadline_h: Hours = 6.0  # for the raw partition to arrive
    # A day that was landed before this one and is not trained yet: wait for it, refuse this day, or skip that
    # one.
    earlier_days: Literal["wait", "refuse", "skip"] = "wait"
    earlier_days_deadline_h: Hours = 24.0
    # This day, when a later one is trained already: refuse it, or train it beside the line of the later days.
    late_days: Literal["refuse", "branch"] = "refuse"

    on_refusal: Literal["fail", "skip"] = "fail"  # what a run does when the gate or the pointer refuses
    approval: bool = False  # a person approves each promotion
    approval_deadline_h: Hours = 72.0

    retries: Annotated[int, Field(ge=0)] = 2
    retry_delay_s: Annotated[float, Field(ge=0)] = 60.0
    prepare_timeout_h: Hours = 2.0  # of each task
    train_timeout_h: Hours = 24.0
    release_timeout_h: Hours = 2.0
    back_end: BackEnd = LocalBackEnd()
