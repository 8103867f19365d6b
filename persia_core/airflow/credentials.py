"""How the credentials of an Airflow connection reach a command: by its environment, and by nothing else."""

import contextlib
import logging
import os
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from persia_core.airflow.names import PUSHGATEWAY_CONNECTION
from persia_core.config.load import PUSHGATEWAY_VARIABLE
from persia_core.monitoring.deliver import PASSWORD_VARIABLE, USER_VARIABLE

log = logging.getLogger(__name__)


def environment_of_connections(s3_conn_id: str) -> dict[str, str]:
    """The environment of a command, with the credentials of store and Pushgateway, if there are any."""
    try:
        environment = command_environment(Connection.get(s3_conn_id))
    except AirflowNotFoundException:
        log.info("no connection %s: credentials are left to boto3's own chain", s3_conn_id)
        environment = command_environment(None)
    with contextlib.suppress(AirflowNotFoundException):
        environment |= pushgateway_environment(Connection.get(PUSHGATEWAY_CONNECTION))
    return environment


def command_environment(connection: Any | None) -> dict[str, str]:
    """This process's environment without Airflow's own settings, with the credentials of an `aws` connection.

    Without a connection boto3's own chain decides.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW__", "AIRFLOW_CONN_"))}
    environment["PYTHONUNBUFFERED"] = "1"
    if connection is None:
        return environment
    extra = connection.extra_dejson
    given = {
        "AWS_ACCESS_KEY_ID": connection.login,
        "AWS_SECRET_ACCESS_KEY": connection.password,
        "AWS_SESSION_TOKEN": extra.get("aws_session_token"),
        "AWS_DEFAULT_REGION": extra.get("region_name"),
        "PERSIA_S3_ENDPOINT": extra.get("endpoint_url"),
    }
    return environment | {name: value for name, value in given.items() if value}


def pushgateway_environment(connection: Any) -> dict[str, str]:
    """What a command needs to push its metrics, from an `http` connection."""
    host = str(connection.host or "").rstrip("/")
    url = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    given = {
        PUSHGATEWAY_VARIABLE: f"{url}:{connection.port}" if connection.port else url,
        USER_VARIABLE: connection.login,
        PASSWORD_VARIABLE: connection.password,
    }
    return {name: value for name, value in given.items() if value}
