"""What the Airflow UI says about the daily retrain: to people who have not read the code."""

from airflow.sdk import Param

from persia_core.airflow import names

DAILY_RETRAIN = """
### Daily retrain of `{model}`

Takes **one logical day** of `{dataset}`, goes on training the model of the day before on it, and, if the
result is good, moves the `champion` pointer that serving reads. Everything about it stands in `{file}`.

* **prepare**: wait for the raw files, hash them to 64-bit ids, check the hashed partition.
* **train**: wait until it is the day's turn, then one MPI job.
* **release**: publish the version, validate it, make it champion.
* **clean_up** always runs: it ends the job if it still runs, and removes working files.

**Which day?** The run's partition key; the schedule sets it to the day that has just ended (UTC). By hand,
give a partition key or the param `ds`. The clock is never asked, so an old day can be run again.

**Order matters**: each day starts from the newest checkpoint of an earlier day. A day that comes before its
predecessor is trained waits in `train.wait_for_turn`; one that comes after its successor was trained is
refused there. The log says which day it is about. The very first day has nothing to start from: set
`cold_start`.

**A failed task** says what was wrong and what to do in the last line of its log, and in its XCom `failure`.
Mend the cause and clear the task; nothing half-written is ever visible to readers, and earlier tasks are
not repeated.

**A refused model** (by the gate or by the pointer) leaves the champion where it is.
"""

TASKS = {
    names.WAIT_FOR_RAW: (
        "Waits for the raw files of the day, `raw/…/ds=D`, without holding a worker slot, until a "
        "deadline. Whoever delivers a day lands all of it before the first file is visible, or the run "
        "starts later."
    ),
    names.HASH_FEATURES: (
        "Spark turns the raw partition into 64-bit ids: `raw/…/ds=D` → `hashed/…/ds=D`. Done already for "
        "the same input: nothing is written again."
    ),
    names.VALIDATE_PARTITION: (
        "Great Expectations on the hashed partition. Data Docs are kept under `data_docs/…/ds=D`. A "
        "refused partition ends the run here: mend the data, hash it again with `--replace`, and clear "
        "this task."
    ),
    names.WAIT_FOR_TURN: (
        "Decides which checkpoint the day starts from, and says so. Waits, without a worker slot, while "
        "an earlier day has landed and is not trained; refuses the day if a later one is trained already."
        " The name of the training run is in this task's XCom: equal data, start and configuration give "
        "an equal name."
    ),
    names.MPI_JOB: (
        "One MPI job: C++ embedding servers and PyTorch trainers. **Evaluates the new day before training"
        " on it**, then trains. The job lives on its own: if the scheduler or the worker dies, the next "
        "try of this task finds the same job and goes on with it."
    ),
    names.PUBLISH: (
        "Checkpoint and serving export go to the object store: parts first, manifest last. The version's "
        "name is in this task's XCom."
    ),
    names.VALIDATE_MODEL: (
        "Reads the published version back: every checksum, predictions of a fresh process against the "
        "trainer's, and the metric gate against the champion on the same rows."
    ),
    names.APPROVE: (
        "Waits for a person: *Required actions* in the UI. Rejecting skips the promotion; the version "
        "stays as a candidate."
    ),
    names.PROMOTE: (
        "Moves the `champion` pointer by compare-and-swap. Forward only: an older day never replaces a "
        "newer one."
    ),
    names.CLEAN_UP: (
        "Runs whatever became of the run. Ends the training job if it still runs. Removes the working "
        "files of a published run, but for logs by rank and curves, which stay for the days of "
        "`retention.run_files_days`; those of a run that is not published stay, so that its failed task can"
        " be cleared."
    ),
}


def daily_params() -> dict[str, Param]:
    """The params of the daily retrain."""
    return {
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
        "cold_start_dense": Param(
            False,
            type="boolean",
            title="Cold start of the dense network",
            description="Keep the embedding rows of the day before, and begin with a new dense network: for "
            "a change of training.model or its arguments.",
        ),
        "skip_earlier_days": Param(
            False,
            type="boolean",
            title="Skip earlier days",
            description="Train this day although an earlier one has landed and is not trained: leave it out.",
        ),
        "train_again": Param(
            False,
            type="boolean",
            title="Train again",
            description="Train although the same data was trained on from the same start: a new version.",
        ),
    }
