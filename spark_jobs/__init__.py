"""Spark jobs: raw partitions become hashed ones. Runnable with spark-submit; no Airflow here."""
