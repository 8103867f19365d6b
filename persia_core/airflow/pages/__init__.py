"""Pages that the buttons of tasks lead to, served by Airflow's API server."""
