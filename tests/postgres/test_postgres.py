"""Airflow's metadata on a real PostgreSQL: tables, serialised DAGs, and a run by the real scheduler."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine, text

from persia_core.platform import services
from persia_core.platform.ports import free_port
from persia_core.platform.state import State
from tests.postgres.server import postgres, there_is_postgres
from tests.support.waiting import gone, wait_for

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not there_is_postgres(), reason="no PostgreSQL: make postgres-tests unpacks one"),
]

ROOT = Path(__file__).parents[2]
DAGS = {
    *("daily_retrain_movielens_dlrm", "daily_retrain_synthetic_dlrm", "rollback_model", "housekeeping"),
    *("bootstrap_model", "example_consumer_synthetic_dlrm"),
}
PARTS = ("scheduler", "dag-processor", "triggerer", "api-server")


class Airflow:
    """Airflow's processes on the metadata database at `url`; `query` asks that database."""

    def __init__(self, url: str, home: Path) -> None:
        self.home = home
        self.engine = create_engine(url)
        state = State(
            id="postgres-test",
            project=str(ROOT),
            access_key="unused",
            secret_key="unused",
            s3_port=9,
            airflow_port=free_port(18080),
        )
        self.state = state
        self.environment = services.airflow_environment(state) | {
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            "PERSIA_HOME": str(home / "persia"),
            "PERSIA_STORAGE_URL": f"file://{home}/store",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *words],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def start(self) -> None:
        for part in PARTS:
            with (self.home / f"{part}.log").open("wb") as log:
                process = subprocess.Popen(
                    services.airflow_command(part, self.state),
                    cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self.processes.append(process)
        wait_for(lambda: not services.airflow_unhealthy(self.state), "Airflow on PostgreSQL", 300.0)
        services.create_pools(self.state)

    def stop(self) -> None:
        """End the sessions of its processes, and what they have started."""
        family = [
            member
            for process in self.processes
            if process.poll() is None
            for member in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid))
        ]
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        _, left = psutil.wait_procs(family, timeout=30)
        for member in left:
            member.kill()
        wait_for(lambda: gone(member.pid for member in family), "end of Airflow", 30.0)
        self.engine.dispose()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    with postgres() as url:
        found = Airflow(url, tmp_path_factory.mktemp("airflow-on-postgres"))
        (found.home / "store").mkdir()
        found.command("db", "migrate")
        try:
            yield found
        finally:
            found.stop()


def test_the_tables_are_made_and_a_second_migration_changes_nothing(airflow: Airflow) -> None:
    revision = airflow.query("select version_num from alembic_version")
    assert len(revision) == 1
    airflow.command("db", "migrate")
    assert airflow.query("select version_num from alembic_version") == revision
    assert airflow.query("select version()")[0][0].startswith("PostgreSQL 15")


def test_every_dag_is_serialised_into_it(airflow: Airflow) -> None:
    airflow.command("dags", "reserialize")
    assert {name for (name,) in airflow.query("select dag_id from serialized_dag")} == DAGS
    assert airflow.query("select * from import_error") == []


def test_the_scheduler_takes_a_run_to_its_end(airflow: Airflow) -> None:
    airflow.start()
    conf = json.dumps({"apply": False})
    airflow.command("dags", "trigger", "housekeeping", "--run-id", "by-hand", "--conf", conf)

    def ended() -> list[tuple[Any, ...]]:
        return airflow.query(
            "select state from dag_run where run_id = 'by-hand' and state in ('success', 'failed')"
        )

    state = wait_for(ended, "the run", 300.0)
    tasks = dict(airflow.query("select task_id, state from task_instance where run_id = 'by-hand'"))
    assert state == [("success",)], tasks
    models = ("movielens_dlrm", "synthetic_dlrm")
    assert tasks == dict.fromkeys(
        [*(f"{model}.{task}" for model in models for task in ("retire", "sweep")), "clean"], "success"
    )
    assert airflow.query("select pool from slot_pool where pool like 'persia_%' order by pool") == [
        ("persia_cluster",),
        ("persia_spark",),
    ]
