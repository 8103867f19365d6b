"""Every metric of the stages: its name, what it says, its labels. Spelled here and nowhere else.

Those of `persia serve` are in persia_core/serve/metrics.py. Each metric has the label `model`. All labels
have few values: models, stages, tables, roles, reasons, exit codes; never a day, a run or a version. Units
are base units: seconds, bytes, rows.
"""

from dataclasses import dataclass
from typing import Literal

MODEL, STAGE = "model", "stage"

# The commands that are counted, as the label `stage` names them.
HASH = "hash"
VALIDATE_DATA = "validate_data"
TRAIN = "train"
PUBLISH = "publish"
VALIDATE_MODEL = "validate_model"
PROMOTE = "promote"
ROLLBACK = "rollback"
RETIRE = "retire"
SWEEP = "sweep"
STAGES = (HASH, VALIDATE_DATA, TRAIN, PUBLISH, VALIDATE_MODEL, PROMOTE, ROLLBACK, RETIRE, SWEEP)


@dataclass(frozen=True)
class Metric:
    """One metric. `keeps`: what remains of a gauge that is set again. `buckets`: upper bounds, ascending."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    labels: tuple[str, ...] = ()  # beside `model`
    buckets: tuple[float, ...] = ()
    keeps: Literal["newest", "largest"] = "newest"

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names of its lines in the text format."""
        if self.kind == "histogram":
            return tuple(f"{self.name}{suffix}" for suffix in ("_bucket", "_sum", "_count"))
        return (self.name,)


def _counter(name: str, says: str, *labels: str) -> Metric:
    return Metric(name, "counter", says, labels)


def _gauge(name: str, says: str, *labels: str, keeps: Literal["newest", "largest"] = "newest") -> Metric:
    return Metric(name, "gauge", says, labels, keeps=keeps)


def _histogram(name: str, says: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, "histogram", says, labels, buckets)


# Of every stage.
STAGE_RUNS = _counter("persia_stage_runs_total", "Ends of a stage, by exit code", STAGE, "exit_code")
STAGE_SECONDS = _histogram(
    "persia_stage_seconds",
    "Time from the start of a stage to its end",
    (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0),
    STAGE,
)
STAGE_SUCCESS = _gauge(
    "persia_stage_last_success_timestamp_seconds",
    "When the stage last did what it was asked, Unix time",
    STAGE,
)
STAGE_FAILURE = _gauge(
    "persia_stage_last_failure_timestamp_seconds", "When the stage last failed, Unix time", STAGE
)
STAGE_PARTITION = _gauge(
    "persia_stage_newest_partition_timestamp_seconds",
    "Begin of the newest partition that the stage has done, Unix time",
    STAGE,
    keeps="largest",
)
PARTITION_INTERVAL = _gauge(
    "persia_partition_interval_seconds", "Time from the begin of a partition to that of the next", STAGE
)
PUSH_FAILURES = _counter(
    "persia_metrics_push_failures_total", "Pushes that the Pushgateway did not take", STAGE
)

# Hashing.
HASH_ROWS = _counter("persia_hash_rows_total", "Raw rows that were hashed and kept")
HASH_REJECTED_ROWS = _counter("persia_hash_rejected_rows_total", "Raw rows that were rejected", "reason")
HASH_BYTES = _counter("persia_hash_written_bytes_total", "Size of the hashed partitions that were made")

# Validation of the data.
DATA_VERDICTS = _counter("persia_data_verdicts_total", "Verdicts on hashed partitions", "verdict")
DATA_CHECKS = _counter("persia_data_checks_total", "Checks of hashed partitions", "status")
DATA_PASSED = _gauge("persia_data_passed", "1 if the partition judged last may be trained on, else 0")

# Training. A run counts once, when it has come to its end, with the rows of all its attempts.
TRAINING_ROWS = _counter("persia_training_rows_total", "Rows that were trained on")
TRAINING_SKIPPED_ROWS = _counter("persia_training_skipped_rows_total", "Rows that were skipped", "reason")
TRAINING_SAMPLES = _counter(
    "persia_training_samples_total", "Samples that were trained on: a row counts in each epoch"
)
TRAINING_STEPS = _counter("persia_training_steps_total", "Steps of training")
TRAINING_SECONDS = _counter("persia_training_seconds_total", "Time in training, without loading and saving")
TRAINING_STEP_SECONDS = _histogram(
    "persia_training_step_seconds",
    "Time of one step of trainer 0, in the last attempt of each run",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
TRAINING_STALENESS = _histogram(
    "persia_training_staleness_batches",
    "Batches of a trainer between lookup and update, at each update",
    (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0),
)
RANK_FAILURES = _counter(
    "persia_training_rank_failures_total", "Ranks that ended a training job", "role", "how"
)
TABLE_ROWS = _gauge("persia_embedding_rows", "Rows of a table after the newest training", "table")
TABLE_BYTES = _gauge("persia_embedding_bytes", "Memory of a table after the newest training", "table")
CUTS = _counter("persia_checkpoint_cuts_total", "Cuts within a run, by what became of them", "outcome")
CUT_BYTES = _counter("persia_checkpoint_cut_bytes_total", "Size of the cuts that were written")
CUT_PAUSE = _counter("persia_checkpoint_pause_seconds_total", "Time that training stood still for cuts")
CUT_LONGEST_PAUSE = _gauge(
    "persia_checkpoint_longest_pause_seconds", "Longest standstill for one cut, in the newest training"
)

# Publishing, gate and promotion.
VERSION_BYTES = _gauge("persia_version_bytes", "Size of the version that was published last")
GATE_VERDICTS = _counter("persia_gate_verdicts_total", "Verdicts of the model gate", "verdict")
GATE_PASSED = _gauge("persia_gate_passed", "1 if the version judged last passed the gate, else 0")
MODEL_AUC = _gauge("persia_model_auc", "AUC on the partition of the version judged last", "of")
MODEL_LOG_LOSS = _gauge(
    "persia_model_log_loss", "Log-loss in nats on the partition of the version judged last", "of"
)
PROMOTIONS = _counter(
    "persia_promotions_total", "Promotions and rollbacks, by what became of them", "outcome"
)

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)
}
