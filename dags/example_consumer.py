"""An example of a DAG that runs whenever a model has a new champion."""

from pathlib import Path

from persia_core.airflow.factory.maintenance import champion_consumer

dag = champion_consumer(Path(__file__).parents[1] / "configs", "synthetic_dlrm")
