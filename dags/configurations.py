"""Makes no DAG. A configuration that cannot be read appears in the Airflow UI as an import error of this
file,

while the DAGs of all other models stay.
"""

from pathlib import Path

from persia_core.airflow.factory.models import check_models

check_models(Path(__file__).parents[1] / "configs")
