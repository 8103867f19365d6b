"""The DAGs daily_retrain_<model>: one for each configuration that has a section `airflow`."""

from pathlib import Path

from persia_core.airflow.factory.daily_retrain import daily_retrain_dags

globals().update(daily_retrain_dags(Path(__file__).parents[1] / "configs"))
