"""The page "Models" of the Airflow UI."""
