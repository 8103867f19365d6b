"""How the credentials of an Airflow connection reach a command: by its environment, and by nothing else."""

import os
from typing import Any

from persia_core.config.load import PUSHGATEWAY_VARIABLE
from persia_core.monitoring.deliver import PASSWORD_VARIABLE, USER_VARIABLE


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
