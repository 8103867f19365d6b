"""Retention, abandoned uploads, left-over files."""

from pathlib import Path

from persia_core.airflow.factory.maintenance import housekeeping

dag = housekeeping(Path(__file__).parents[1] / "configs")
