"""What the platform of compose.yaml needs before it starts: the metadata tables and the bucket.

Harmless when repeated.
"""

import os
import subprocess
import sys
from urllib.parse import urlsplit

import boto3

subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)

bucket = urlsplit(os.environ["PERSIA_STORAGE_URL"]).netloc
s3 = boto3.client("s3", endpoint_url=os.environ["PERSIA_S3_ENDPOINT"])
if bucket not in {entry["Name"] for entry in s3.list_buckets()["Buckets"]}:
    s3.create_bucket(Bucket=bucket)
sys.stdout.write(f"bucket {bucket} is there\n")
