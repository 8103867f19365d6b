"""The hash stage in its DAG, submitted by SparkSubmitOperator to a real Spark, beside `persia hash`."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from persia_core.data.hashing import hash_partition
from persia_core.handoff.layout import raw_prefix
from persia_core.handoff.local_store import LocalStore
from tests.spark.oracle import COLUMNS, DOCUMENT
from tests.spark.support import DS, config_of, csv_bytes, local_store, published, random_rows

pytestmark = [pytest.mark.spark, pytest.mark.airflow]

ROOT = Path(__file__).parents[2]
BAD = "2026-11-21"
SECRET = "not-for-anyone-7f3a"
GOOD_ROWS = {"a.csv": csv_bytes(random_rows(200, seed=5)), "b.csv": csv_bytes(random_rows(90, seed=6))}
# For a few rows compiling takes longer than interpreting.
FAST = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}

RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
for ds in sys.argv[2:]:
    dag = bag.dags["daily_retrain_oracle"]
    # Every other task is taken for done.
    run = dag.test(logical_date=None, run_conf={"ds": ds}, mark_success_pattern="(?!prepare.hash_features).*")
    [task] = [t for t in run.get_task_instances() if t.task_id == "prepare.hash_features"]
    found = [task.operator, str(task.state), task.try_number, task.xcom_pull("prepare.hash_features")]
    print("RESULT" + json.dumps([*found, task.xcom_pull("prepare.hash_features", key="failure")]), flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """One good day, and one whose second file is not as declared."""
    store = local_store(tmp_path / "store", GOOD_ROWS)
    rows = random_rows(3, seed=7)
    store.put(raw_prefix("clicks", BAD) + "good.csv", csv_bytes(rows))
    without = [name for name in COLUMNS if name != "city"]
    store.put(raw_prefix("clicks", BAD) + "bad.csv", csv_bytes(rows, without))
    return store


def run_days(root: Path, home: Path) -> tuple[list[Any], str]:
    """What became of the task on each day, and all that was said."""
    for name in ("configs", "dags"):
        (root / name).mkdir()
    shutil.copy(ROOT / "dags" / "daily_retrain.py", root / "dags")
    document = DOCUMENT | {
        "storage": {"url": (root / "store").as_uri()},
        "airflow": {"spark_connection": "tiny_spark", "retries": 2, "retry_delay_s": 0, "schedule": None},
        "spark": {"settings": FAST},
    }
    (root / "configs" / "oracle.yaml").write_text(yaml.safe_dump(document))
    shutil.copytree(home, root / "airflow")
    environment = os.environ | {
        "AIRFLOW_HOME": str(root / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{root / 'airflow' / 'airflow.db'}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_TINY_SPARK": json.dumps({"conn_type": "spark", "host": "local[1]"}),
        "AIRFLOW_CONN_PERSIA_S3": json.dumps({"conn_type": "aws", "login": "a", "password": SECRET}),
        "PYTHONPATH": str(ROOT),
        "PERSIA_HOME": str(root / "home"),
        "PERSIA_PROJECT": str(root),
    }
    command = [sys.executable, "-c", RUN, str(root / "dags"), DS, BAD]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return [json.loads(line) for line in re.findall(r"RESULT(.*)", done.stdout)], said


def test_a_submitted_day_is_the_one_of_persia_hash_and_a_bad_one_fails_at_once(
    spark: Any, store: LocalStore, tmp_path: Path, airflow_database: Path
) -> None:
    (good, bad), said = run_days(tmp_path, airflow_database)
    here = local_store(tmp_path / "here", GOOD_ROWS)
    expected = hash_partition(config_of(), here, DS)
    operator, state, tries, result, failure = good
    assert (operator, state, tries, failure) == ("HashSubmitOperator", "success", 1, None)
    assert result["digest"] == expected.digest
    for part in ("digest", "parts", "details"):
        assert getattr(published(store, tmp_path)[0], part) == getattr(published(here, tmp_path)[0], part)
    assert (result["rows_in"], result["rejected"]) == (290, {})
    assert spark.version in said, "of the session that spark-submit gave, in the log of the task"

    _, state, tries, _, failure = bad
    assert (state, tries) == ("failed", 1), "no retry can mend it"
    assert failure["name"] == "DATA_INVALID"
    assert "bad.csv has no column 'city'" in failure["what"] and failure["what_to_do"]
    assert f"error: {failure['what']}" in said
    assert [each.key for each in store.list("hashed/") if BAD in each.key] == []
    assert not list((tmp_path / "home" / "work").glob("hash-*"))
    assert SECRET not in said
