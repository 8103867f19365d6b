"""The names that people meet in the Airflow UI: DAGs, tasks, pools, assets, the connection."""

S3_CONNECTION = "persia_s3"
PUSHGATEWAY_CONNECTION = "persia_pushgateway"  # may be missing

# Pools: how many Spark sessions and how many training jobs there may be at once.
SPARK_POOL = "persia_spark"
CLUSTER_POOL = "persia_cluster"
POOLS = {
    SPARK_POOL: "Spark sessions of persia hash and validate, at once",
    CLUSTER_POOL: "MPI training jobs, at once",
}

WAIT_FOR_RAW = "prepare.wait_for_raw"
HASH_FEATURES = "prepare.hash_features"
VALIDATE_PARTITION = "prepare.validate_partition"
WAIT_FOR_TURN = "train.wait_for_turn"
MPI_JOB = "train.mpi_job"
PUBLISH = "release.publish"
VALIDATE_MODEL = "release.validate_model"
APPROVE = "release.approve"
PROMOTE = "release.promote"
CLEAN_UP = "clean_up"

ROLLBACK_DAG = "rollback_model"

SCHEDULES_VARIABLE = "PERSIA_SCHEDULES"  # "off": no DAG starts by the clock; backfills do


def daily_retrain(model: str) -> str:
    """The id of the DAG that retrains a model."""
    return f"daily_retrain_{model}"
