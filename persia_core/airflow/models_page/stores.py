"""The object stores of the models, opened with the credentials of Airflow's connection."""

from typing import Any

from persia_core.airflow.names import S3_CONNECTION
from persia_core.config.model import Storage
from persia_core.handoff.object_store import ObjectStore, open_store


def store_of(storage: Storage) -> ObjectStore:
    """The store of a configuration. Without a connection boto3's own chain decides. Raises ConfigError."""
    connection = _connection() if storage.url.startswith("s3://") else None
    if connection is None:
        return open_store(storage)
    import boto3

    from persia_core.handoff.s3_store import S3Store

    extra = connection.extra_dejson
    session = boto3.session.Session(
        aws_access_key_id=connection.login or None,
        aws_secret_access_key=connection.password or None,
        aws_session_token=extra.get("aws_session_token"),
        region_name=extra.get("region_name"),
    )
    return S3Store(storage.url, extra.get("endpoint_url") or storage.endpoint_url, session)


def _connection() -> Any | None:
    from airflow.exceptions import AirflowNotFoundException
    from airflow.models import Connection

    try:
        return Connection.get_connection_from_secrets(S3_CONNECTION)
    except AirflowNotFoundException:
        return None
