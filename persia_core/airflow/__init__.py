"""What the DAG files are made of. Nothing here imports torch, Spark, boto3 or Great Expectations."""
