"""The processes of the local platform: their commands, their environment, and when they are healthy."""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import persia_core
from persia_core.airflow import names
from persia_core.errors import EnvironmentProblem
from persia_core.platform.processes import MARKER
from persia_core.platform.state import State, platform_dir

BUCKET = "persia"
REGION = "us-east-1"
AIRFLOW_PARTS = ("scheduler", "dag-processor", "triggerer", "api-server")

_READABLE_BY_A_BROWSER = {  # which signs nothing: for Data Docs and reports; the endpoint is on loopback
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{BUCKET}/*",
        }
    ],
}
_NOT_INHERITED = ("AWS_", "AIRFLOW", "PERSIA_S3_ENDPOINT", "PERSIA_STORAGE_URL", "PYTHONHOME", "VIRTUAL_ENV")


def s3_command(state: State) -> list[str]:
    """The embedded S3 endpoint. Everything in it lives in memory."""
    return [sys.executable, "-m", "persia_core.platform.s3_endpoint", "--port", str(state.s3_port)]


def airflow_command(part: str, state: State) -> list[str]:
    """`airflow PART`. Log servers are left out: they listen on all interfaces, and logs are local files."""
    extra = {
        "scheduler": ["--skip-serve-logs"],
        "triggerer": ["--skip-serve-logs"],
        "api-server": ["--host", "127.0.0.1", "--port", str(state.airflow_port)],
    }
    return [sys.executable, "-m", "airflow", part, *extra.get(part, [])]


def base_environment(state: State) -> dict[str, str]:
    """This environment without anybody else's Airflow or S3, with ours on the paths, and marked as ours."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    package = str(Path(persia_core.__file__).parents[1])
    return env | {
        MARKER: state.id,
        "PERSIA_PROJECT": state.project,
        "PERSIA_HOME": str(platform_dir().parent),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, env.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
    }


def airflow_environment(state: State) -> dict[str, str]:
    """Airflow's settings: one machine, one person, everything on loopback."""
    home = platform_dir() / "airflow"
    connection = {
        "conn_type": "aws",
        "login": state.access_key,
        "password": state.secret_key,
        "extra": {"endpoint_url": state.s3_url, "region_name": REGION},
    }
    settings = {
        "core__dags_folder": str(Path(state.project) / "dags"),
        "core__plugins_folder": str(home / "plugins"),
        "core__executor": "LocalExecutor",
        "core__parallelism": "2",
        "core__load_examples": "False",
        "core__dags_are_paused_at_creation": "False",
        "core__simple_auth_manager_all_admins": "True",
        "core__execution_api_server_url": f"{state.airflow_url}/execution/",
        "core__hostname_callable": "socket.gethostname",  # the default asks the DNS
        "database__sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}",
        "api__base_url": state.airflow_url,
        "api__host": "127.0.0.1",
        "api__port": str(state.airflow_port),
        "api__workers": "1",
        "api__instance_name": "Persia (local)",
        "scheduler__scheduler_idle_sleep_time": "0.5",
        "dag_processor__min_file_process_interval": "60",
        "dag_processor__parsing_processes": "1",
        "usage_data_collection__enabled": "False",
        "logging__colored_console_log": "False",
    }
    return (
        base_environment(state)
        | {f"AIRFLOW__{name.upper()}": value for name, value in settings.items()}
        | {"AIRFLOW_HOME": str(home), "AIRFLOW_CONN_PERSIA_S3": json.dumps(connection)}
        # Nobody delivers a partition at night here. Runs are triggered by hand, by REST, or by assets.
        | {names.SCHEDULES_VARIABLE: "off"}
    )


def user_environment(state: State) -> dict[str, str]:
    """What a shell needs for `persia` commands to use the local S3 endpoint."""
    return {
        "AWS_ACCESS_KEY_ID": state.access_key,
        "AWS_SECRET_ACCESS_KEY": state.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "PERSIA_S3_ENDPOINT": state.s3_url,
    }


def s3_healthy(state: State) -> bool:
    """True when the endpoint answers and the bucket is there, which is created on the way."""
    if _get(f"{state.s3_url}/moto-api/") is None:
        return False
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=state.s3_url,
        aws_access_key_id=state.access_key,
        aws_secret_access_key=state.secret_key,
        region_name=REGION,
    )
    client.create_bucket(Bucket=BUCKET)  # no error if it is there
    client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(_READABLE_BY_A_BROWSER))
    return True


def airflow_unhealthy(state: State) -> list[str]:
    """The components of Airflow that are not healthy yet, by their names in its health report."""
    report = get_json(f"{state.airflow_url}/api/v2/monitor/health")
    parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
    if not isinstance(report, dict):
        return ["api_server"]
    return [part for part in parts if (report.get(part) or {}).get("status") != "healthy"]


def create_pools(state: State) -> None:
    """Create the pools that the DAGs name, with one slot each; those that are there stay as they are.

    A task that has handed its job to a cluster still counts there.
    """
    token = (get_json(f"{state.airflow_url}/auth/token") or {}).get("access_token")
    entities = [
        {"name": name, "slots": 1, "description": description, "include_deferred": name == names.CLUSTER_POOL}
        for name, description in names.POOLS.items()
    ]
    action = {"action": "create", "action_on_existence": "skip", "entities": entities}
    request = urllib.request.Request(  # noqa: S310 - a loopback URL of ours
        f"{state.airflow_url}/api/v2/pools",
        data=json.dumps({"actions": [action]}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        method="PATCH",
    )
    try:
        with _opener().open(request, timeout=30) as answer:
            errors = json.load(answer)["create"]["errors"]
    except OSError as error:
        errors = [str(error)]
    if errors:
        raise EnvironmentProblem(
            f"Airflow's pools cannot be created: {errors}", "look into the platform's api-server.log"
        )


def get_json(url: str) -> Any:
    """The JSON document at a loopback URL, or None if nobody answers."""
    body = _get(url)
    try:
        return None if body is None else json.loads(body)
    except ValueError:
        return None


def _get(url: str) -> bytes | None:
    try:
        with _opener().open(url, timeout=5) as answer:
            return bytes(answer.read())
    except (OSError, urllib.error.URLError):
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: never by a proxy
