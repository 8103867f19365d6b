"""The first training of a model, over a range of days."""

from pathlib import Path

from persia_core.airflow.factory.maintenance import bootstrap_model

dag = bootstrap_model(Path(__file__).parents[1] / "configs")
