"""The hash stage submitted to a Spark by the provider's own operator, with a connection of Airflow."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

from persia_core.airflow.credentials import environment_of_connections
from persia_core.airflow.failure import failure_of
from persia_core.airflow.names import S3_CONNECTION
from persia_core.airflow.operators import TAIL_LINES
from persia_core.config.home import project_dir, work_dir
from persia_core.errors import ConfigError, EnvironmentProblem, PersiaError

STAGE = "hash"
_DEPLOY_MODE = "spark.submit.deployMode"


class GuardedSubmitHook(SparkSubmitHook):
    """The provider's hook, whose spark-submit ends with the task however that ends, and has our environment.

    :param environment: of spark-submit and of the driver that it starts. Not `env_vars` of the provider: on
        YARN and Kubernetes these become arguments, which all can read.
    """

    def __init__(self, *, environment: dict[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment = environment
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        if self.master.startswith("local"):
            self.environment["SPARK_LOCAL_IP"] = "127.0.0.1"

    @property
    def master(self) -> str:
        return str(self._connection["master"])

    @property
    def deploy_mode(self) -> str:
        return str(self._connection["deploy_mode"] or self._conf.get(_DEPLOY_MODE) or "client")

    @property
    def exit_code(self) -> int | None:
        """Of spark-submit, which is that of the driver; None if it has not ended."""
        return None if self._submit_sp is None else self._submit_sp.poll()

    def submit(self, application: str = "", **kwargs: Any) -> str | None:
        """Run spark-submit to its end. Raises AirflowException if that is no success."""
        return super().submit(
            application,
            env=self.environment,
            cwd=project_dir(),
            stdin=subprocess.PIPE,
            start_new_session=True,  # a signal to the task's group must not reach the guard
            encoding="utf-8",
            errors="replace",
            **kwargs,
        )

    def on_kill(self) -> None:
        """Break the life line: the guard ends spark-submit, the driver, and with that its executors."""
        if self._submit_sp is not None and self._submit_sp.stdin is not None:
            with contextlib.suppress(OSError):
                self._submit_sp.stdin.close()

    def _build_spark_submit_command(self, application: str) -> list[str]:
        submit: list[str] = super()._build_spark_submit_command(application)
        return [sys.executable, "-m", "persia_core.launch.guard", *submit]

    def _process_spark_submit_log(self, itr: Iterator[Any]) -> None:
        super()._process_spark_submit_log(self._noted(itr))

    def _noted(self, lines: Iterator[Any]) -> Iterator[Any]:
        for line in lines:
            self.tail.append(line.rstrip("\n"))
            yield line


class HashSubmitOperator(SparkSubmitOperator):
    """`persia hash` by spark-submit: `spark_jobs/publish_partition.py`, with the driver on this worker.

    Master, queue, principal and keytab are those of the connection `conn_id`. Exit codes become exceptions as
    those of any stage, and the result of the stage is the task's. `application_args` are those of `persia
    hash`. Cluster deploy mode is refused: docs/decisions/0048.

    :param s3_conn_id: see PersiaOperator.
    """

    def __init__(self, *, s3_conn_id: str = S3_CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.s3_conn_id = s3_conn_id
        self._result: Any = None

    def execute(self, context: Any) -> Any:
        """Submit, and wait for the end; returns the result of `persia hash`."""
        arguments = self.arguments()
        with tempfile.TemporaryDirectory(prefix="persia-task-") as scratch:
            result_file = Path(scratch) / "result.json"
            self.application = str(_application())
            self.application_args = [*arguments[1:], "--result-file", str(result_file)]
            try:
                hook = self._hook = self._get_hook()
            except PersiaError as error:
                raise failure_of(context, arguments, error.exit_code, f"error: {error}".split("\n")) from None
            self.log.info("persia %s, submitted to %s", " ".join(arguments), hook.master)
            try:
                super().execute(context)
            except AirflowException:
                if not hook.exit_code:  # it is not spark-submit that failed
                    raise
                raise failure_of(context, arguments, hook.exit_code, hook.tail) from None
            finally:
                self.on_kill()
            self.application_args = arguments[1:]  # those that a person gives by hand
            self._result = json.loads(result_file.read_text(encoding="utf-8"))
        return self._result

    def arguments(self) -> list[str]:
        """The arguments of the `persia` command that the application stands for."""
        return [STAGE, *(self.application_args or [])]

    def on_kill(self) -> None:
        """End every process that was started."""
        if self._hook is not None:
            self._hook.on_kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Asked by Airflow's OpenLineage provider, if it is installed and configured."""
        from persia_core.airflow.openlineage import facets_of

        return facets_of(self.arguments(), self._result)

    def _get_hook(self) -> GuardedSubmitHook:
        from spark_jobs.session import submit_settings

        _check_connection(self._conn_id)
        hook = GuardedSubmitHook(
            environment=_environment(environment_of_connections(self.s3_conn_id)),
            conn_id=self._conn_id,
            conf=submit_settings() | (self.conf or {}),
            name=self.name,
            application_args=self.application_args,
        )
        if hook.deploy_mode != "client":
            raise ConfigError(
                f"connection {self._conn_id} wants deploy mode {hook.deploy_mode!r}, and the hash stage is "
                "submitted in client mode only",
                "set deploy-mode to client in the connection's extra (docs/spark-cluster.md says why)",
            )
        return hook


def _check_connection(conn_id: str) -> None:
    """The provider takes one that is not there for YARN, and Kubernetes needs another provider."""
    try:
        connection = Connection.get(conn_id)
    except AirflowNotFoundException:
        raise ConfigError(
            f"there is no connection {conn_id}, which airflow.spark_connection names",
            f"make one: airflow connections add {conn_id} --conn-type spark --conn-host spark://HOST "
            "--conn-port 7077",
        ) from None
    kubernetes = "k8s" in f"{connection.conn_type}://{connection.host}"
    if kubernetes and find_spec("airflow.providers.cncf.kubernetes") is None:
        raise EnvironmentProblem(
            f"connection {conn_id} is of Kubernetes, and Airflow's provider of it is not installed here",
            "install apache-airflow-providers-cncf-kubernetes on the workers",
        )


def _application() -> Path:
    import spark_jobs

    return Path(next(iter(spark_jobs.__path__))) / "publish_partition.py"


def _environment(environment: dict[str, str]) -> dict[str, str]:
    """The same with what spark-submit needs to find itself, Java, and this Python with our modules."""
    from spark_jobs.java import find_java_home

    here: Sequence[str] = (str(Path(sys.executable).parent), environment.get("PATH", os.defpath))
    code = (str(_application().parents[1]), environment.get("PYTHONPATH", ""))
    return {
        "PYSPARK_PYTHON": sys.executable,
        **environment,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "JAVA_HOME": str(find_java_home(work_dir(project_dir()) / "java")),
        # A Spark of the host's goes before the one of this environment.
        "PATH": os.pathsep.join(reversed(here)),
        "PYTHONPATH": os.pathsep.join(filter(None, code)),
    }
