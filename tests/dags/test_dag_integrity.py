"""The DAG files themselves: they import, quickly and lightly, and say what they should."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "pyspark", "great_expectations", "boto3", "pyarrow", "pandas", "numpy")
STAGES = ["hash_features", "validate_partition", "train", "publish", "validate_model", "promote"]

INSPECT = """
import json, logging, sys
logging.disable(logging.WARNING)
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
print("RESULT" + json.dumps({
    "errors": bag.import_errors,
    "dags": {name: DagSerialization.to_dict(dag) for name, dag in bag.dags.items()},
}, default=str))
"""

IMPORT = """
import importlib.util, json, sys, time
import airflow.sdk
spec = importlib.util.spec_from_file_location("dag_file", sys.argv[1])
before = set(sys.modules)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print("RESULT" + json.dumps(sorted(set(sys.modules))))
"""


def _python(code: str, argument: Path) -> Any:
    """The JSON document that a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(argument)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("RESULT")[2])


@pytest.fixture(scope="module")
def bag() -> Any:
    return _python(INSPECT, ROOT / "dags")


@pytest.fixture(scope="module")
def dag(bag: Any) -> Any:
    return bag["dags"]["daily_retrain"]["dag"]


def test_every_dag_file_imports(bag: Any) -> None:
    assert bag["errors"] == {}
    assert set(bag["dags"]) == {"daily_retrain"}


@pytest.mark.parametrize("file", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_parsing_a_dag_file_imports_nothing_heavy(file: Path) -> None:
    modules = _python(IMPORT, file)
    assert "airflow.sdk" in modules
    assert [name for name in HEAVY if name in modules] == []


def test_the_six_stages_run_one_after_the_other(dag: Any) -> None:
    tasks = {task["__var"]["task_id"]: task["__var"] for task in dag["tasks"]}
    downstream = {name: task.get("downstream_task_ids", []) for name, task in tasks.items()}
    assert downstream == {**dict(zip(STAGES, ([s] for s in STAGES[1:]), strict=False)), STAGES[-1]: []}


def test_two_days_never_run_at_once_and_missed_days_are_not_made_up(dag: Any) -> None:
    assert dag["max_active_runs"] == 1
    assert dag.get("catchup", False) is False


def test_the_schedule_names_the_day_that_has_ended(dag: Any) -> None:
    code = """
import json, sys
from datetime import datetime, timezone
sys.path.insert(0, sys.argv[1])
import daily_retrain
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from pendulum import datetime as at
dag = DagSerialization.from_dict(DagSerialization.to_dict(daily_retrain.hash_features.dag))
restriction = TimeRestriction(at(2026, 11, 21, 1), None, True)
info = dag.timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)
print("RESULT" + json.dumps([info.partition_key, info.run_after.isoformat()]))
"""
    assert _python(code, ROOT / "dags") == ["2026-11-20", "2026-11-21T03:00:00+00:00"]


def test_a_person_can_read_what_it_does(dag: Any) -> None:
    assert len(dag["doc_md"]) > 200
    for task in dag["tasks"]:
        assert len(task["__var"]["doc_md"]) > 60, task["__var"]["task_id"]
        assert task["__var"]["owner"] == "persia"
        assert task["__var"]["execution_timeout"] > 0
    for name, param in dag["params"]:
        assert len(param["description"]) > 20, name
    assert dag["tags"]


@pytest.mark.parametrize(
    ("config", "accepted"),
    [
        ("configs/movielens_dlrm.yaml", True),
        ("/etc/models/a.yml", True),
        ("--verbose", False),
        ("configs/model.json", False),
        ("a b.yaml", False),
    ],
)
def test_the_configuration_must_look_like_a_yaml_file(dag: Any, config: str, accepted: bool) -> None:
    import re

    pattern = dict(dag["params"])["config"]["schema"]["__var"]["pattern"]
    assert bool(re.search(pattern, config)) is accepted
