"""The daily retrain: a day of raw clicks becomes a validated, promoted model."""

from datetime import timedelta

from airflow.sdk import DAG, CronPartitionTimetable, Param

from persia_core.airflow.operators import PersiaOperator
from persia_core.airflow.partition import partition, run_name

CONFIG = "{{ params.config }}"
DS = "{{ partition(dag_run, params) }}"
RUN = "{{ run_name(dag_run) }}"
VERSION = "{{ ti.xcom_pull(task_ids='publish')['version'] }}"

DOC = """
### Daily retrain

Takes **one logical day** of raw clicks, goes on training yesterday's model on it, and, if the result is
good, moves the `champion` pointer that serving reads.

`hash_features` → `validate_partition` → `train` → `publish` → `validate_model` → `promote`

* **Which day?** The run's partition key; the schedule sets it to the day that has just ended (UTC). By
  hand, give a partition key or the param `ds`. The clock is never asked, so an old day can be run again.
* **Order matters**: each day starts from the newest checkpoint of an earlier day. The very first day has
  none: set `cold_start`.
* **A failed task** names what was wrong and what to do in the last line of its log. Clear the task to run
  it again; nothing half-written is ever visible to readers.
* **A refused model** (gate or pointer) leaves the champion where it is.
"""

with DAG(
    dag_id="daily_retrain",
    description="One day of clicks: hash, validate, train, publish, validate, promote",
    doc_md=DOC,
    schedule=CronPartitionTimetable("0 3 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    catchup=False,
    max_active_runs=1,  # a day starts from the checkpoint of the day before
    tags=["recommender", "training", "daily"],
    params={
        "ds": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Logical day",
            description="YYYY-MM-DD. Only for runs without a partition key.",
        ),
        "cold_start": Param(
            False,
            type="boolean",
            title="Cold start",
            description="Start from fresh weights although there is no earlier checkpoint. First day only.",
        ),
        "config": Param(
            "configs/movielens_dlrm.yaml",
            type="string",
            pattern=r"^[A-Za-z0-9_/][A-Za-z0-9_./-]*\.ya?ml$",
            title="Model configuration",
            description="YAML file of the model, relative to the project directory.",
        ),
    },
    user_defined_macros={"partition": partition, "run_name": run_name},
    default_args={
        "owner": "persia",
        "retries": 1,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(hours=2),
    },
):
    hash_features = PersiaOperator(
        task_id="hash_features",
        command=["hash", "--config", CONFIG, "--ds", DS],
        doc_md="Spark turns the raw partition into 64-bit ids: `raw/…/ds=D` → `hashed/…/ds=D`. "
        "Done already for the same input: nothing is written again.",
    )
    validate_partition = PersiaOperator(
        task_id="validate_partition",
        command=["validate", "data", "--config", CONFIG, "--ds", DS],
        doc_md="Great Expectations on the hashed partition. Data Docs are kept under `data_docs/…/ds=D`. "
        "A refused partition ends the run here: mend the data, hash it again, clear this task.",
    )
    train = PersiaOperator(
        task_id="train",
        command=[
            "train",
            *("--config", CONFIG, "--ds", DS, "--run", RUN),
            "{{ '--cold-start' if params.cold_start else '' }}",
        ],
        execution_timeout=timedelta(hours=24),
        doc_md="One MPI job: C++ embedding servers and PyTorch trainers. Starts from the newest checkpoint "
        "of an earlier day, **evaluates the new day before training on it**, then trains.",
    )
    publish = PersiaOperator(
        task_id="publish",
        command=["publish", "--config", CONFIG, "--ds", DS, "--run", RUN],
        doc_md="Checkpoint and serving export go to the object store: parts first, manifest last. "
        "The version's name is in this task's XCom.",
    )
    validate_model = PersiaOperator(
        task_id="validate_model",
        command=["validate", "model", "--config", CONFIG, "--version", VERSION],
        doc_md="Reads the published version back: every checksum, predictions of a fresh process against the "
        "trainer's, and the metric gate against the champion on the same rows.",
    )
    promote = PersiaOperator(
        task_id="promote",
        command=["promote", "--config", CONFIG, "--version", VERSION],
        doc_md="Moves the `champion` pointer by compare-and-swap. Forward only: an older day never replaces "
        "a newer one.",
    )

    hash_features >> validate_partition >> train >> publish >> validate_model >> promote
