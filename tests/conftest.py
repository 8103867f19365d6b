"""Fixtures that every test folder may use."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from persia_core.handoff.s3_store import S3Store
from tests.support.s3_server import s3_server

# The embedded endpoint accepts any secret; a user's real one must never reach a test.
os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)
for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "PERSIA_STORAGE_URL", "PERSIA_S3_ENDPOINT"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3 endpoint over HTTP, empty at the start of the session."""
    with s3_server(tmp_path_factory.mktemp("s3") / "server.log") as url:
        yield url


@pytest.fixture
def s3_url(s3_endpoint: str) -> str:
    """A storage URL in a new, empty bucket at `s3_endpoint`."""
    import boto3

    bucket = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/persia"


@pytest.fixture
def s3_store(s3_endpoint: str, s3_url: str) -> S3Store:
    """A store in a new, empty bucket, over HTTP."""
    return S3Store(s3_url, s3_endpoint)


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of Airflow with an empty database, airflow.db. For copying: the migrations take seconds."""
    home = tmp_path_factory.mktemp("airflow-database")
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(migrate, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (home / "airflow.cfg").unlink(missing_ok=True)  # it names this home
    return home
