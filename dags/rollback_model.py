"""Make an earlier version the champion again."""

from pathlib import Path

from persia_core.airflow.factory.maintenance import rollback_model

dag = rollback_model(Path(__file__).parents[1] / "configs")
