"""What Spark is told for `s3a://` is what boto3 reads with in this process."""

import boto3
import pytest
from botocore.credentials import Credentials

from spark_jobs.s3a import s3a_settings


def test_endpoint_and_credentials_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    of_aws = {
        "fs.s3a.endpoint.region": "eu-central-1",
        "fs.s3a.access.key": "who",
        "fs.s3a.secret.key": "hush",
    }
    assert s3a_settings(boto3.session.Session(), None) == of_aws
    assert s3a_settings(boto3.session.Session(), "http://127.0.0.1:9000") == of_aws | {
        "fs.s3a.endpoint": "http://127.0.0.1:9000",
        "fs.s3a.path.style.access": "true",
        "fs.s3a.connection.ssl.enabled": "false",
    }
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for an hour")
    assert s3a_settings(boto3.session.Session(), None) == of_aws | {"fs.s3a.session.token": "for an hour"}


@pytest.mark.parametrize("method", ["iam-role", "container-role"])
def test_the_role_of_a_host_stays_on_that_host(method: str) -> None:
    session = boto3.session.Session(region_name="eu-central-1")
    session._session._credentials = Credentials("temporary", "key", "token", method=method)
    assert s3a_settings(session, None) == {"fs.s3a.endpoint.region": "eu-central-1"}
