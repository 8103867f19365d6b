"""The DAG files themselves: they import, quickly and lightly, and say what they should."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "pyspark", "great_expectations", "boto3", "pyarrow", "pandas", "numpy")
MODELS = {"daily_retrain_movielens_dlrm", "daily_retrain_synthetic_dlrm"}
OTHERS = {"rollback_model", "housekeeping", "bootstrap_model", "example_consumer_synthetic_dlrm"}
STAGES = [
    "prepare.wait_for_raw",
    "prepare.hash_features",
    "prepare.validate_partition",
    "train.wait_for_turn",
    "train.mpi_job",
    "release.publish",
    "release.validate_model",
    "release.promote",
    "clean_up",
]

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
begun = time.process_time()
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print("RESULT" + json.dumps([time.process_time() - begun, sorted(set(sys.modules))]))
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
    return bag["dags"]["daily_retrain_synthetic_dlrm"]["dag"]


def test_every_dag_file_imports(bag: Any) -> None:
    assert bag["errors"] == {}
    assert set(bag["dags"]) == MODELS | OTHERS  # ready schemas have no DAG


@pytest.mark.parametrize("file", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_parsing_a_dag_file_is_quick_and_imports_nothing_heavy(file: Path) -> None:
    seconds, modules = _python(IMPORT, file)
    assert "airflow.sdk" in modules
    assert [name for name in HEAVY if name in modules] == []
    assert seconds < 1.0, "of processor time, which other programs on this machine do not lengthen"


def test_the_stages_run_one_after_the_other(dag: Any) -> None:
    tasks = {task["__var"]["task_id"]: task["__var"] for task in dag["tasks"]}
    downstream = {name: task.get("downstream_task_ids", []) for name, task in tasks.items()}
    assert downstream == {**dict(zip(STAGES, ([s] for s in STAGES[1:]), strict=False)), STAGES[-1]: []}


def test_missed_days_are_not_made_up(dag: Any) -> None:
    assert dag.get("catchup", False) is False


def test_spark_and_the_cluster_have_pools_and_the_last_task_always_runs(dag: Any) -> None:
    tasks = {task["__var"]["task_id"]: task["__var"] for task in dag["tasks"]}
    pools = {name: task["pool"] for name, task in tasks.items() if "pool" in task}
    assert pools == {"prepare.hash_features": "persia_spark", "train.mpi_job": "persia_cluster"}
    assert [name for name, task in tasks.items() if task.get("is_teardown")] == ["clean_up"]


@pytest.mark.parametrize(
    ("name", "key", "start"),
    [
        ("daily_retrain_synthetic_dlrm", "2026-11-20", "2026-11-21T03:00:00+00:00"),
        ("daily_retrain_movielens_dlrm", "2026-11-19", "2026-11-26T03:00:00+00:00"),  # Thursdays
    ],
)
def test_the_schedule_names_the_partition_that_has_ended(name: str, key: str, start: str) -> None:
    code = f"""
import json, sys
sys.path.insert(0, sys.argv[1])
import daily_retrain
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from pendulum import datetime as at
dag = DagSerialization.from_dict(DagSerialization.to_dict(daily_retrain.{name}))
restriction = TimeRestriction(at(2026, 11, 21, 1), None, True)
info = dag.timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)
print("RESULT" + json.dumps([info.partition_key, info.run_after.isoformat()]))
"""
    assert _python(code, ROOT / "dags") == [key, start]


def test_without_a_clock_no_run_is_due_and_a_backfill_has_its_partitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERSIA_SCHEDULES", "off")
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import daily_retrain
from airflow.serialization.serialized_objects import DagSerialization
from pendulum import datetime as at
dag = DagSerialization.from_dict(DagSerialization.to_dict(daily_retrain.daily_retrain_movielens_dlrm))
days = dag.iter_dagrun_infos_between(at(2026, 11, 6), at(2026, 11, 20))
due = dag.next_dagrun_info(last_automated_run_info=None)
print("RESULT" + json.dumps([due, [info.partition_key for info in days], dag.timetable.summary]))
"""
    days = ["2026-11-12", "2026-11-19"]  # Thursdays
    assert _python(code, ROOT / "dags") == [None, days, "0 3 * * 4 (clock off)"]


def test_a_person_can_read_what_it_does(dag: Any) -> None:
    assert len(dag["doc_md"]) > 200
    for task in dag["tasks"]:
        assert len(task["__var"]["doc_md"]) > 60, task["__var"]["task_id"]
        assert task["__var"]["owner"] == "persia"
        assert task["__var"]["execution_timeout"] > 0
    for name, param in dag["params"]:
        assert len(param["description"]) > 20, name
    assert dag["tags"]


def test_the_other_dags_can_be_read_too(bag: Any) -> None:
    for name in OTHERS:
        dag = bag["dags"][name]["dag"]
        assert len(dag["doc_md"]) > 100, name
        assert dag["tags"], name
        for task in dag["tasks"]:
            fields = task["__var"].get("partial_kwargs") or task["__var"]
            assert len(fields["doc_md"]) > 40, task["__var"]["task_id"]
        for param, declared in dag["params"]:
            assert len(declared["description"]) > 5, param


@pytest.mark.parametrize(
    ("reason", "accepted"),
    [("the gate let a broken model through", True), ("oops", False), (" " * 20, False)],
)
def test_a_rollback_needs_a_reason(bag: Any, reason: str, accepted: bool) -> None:
    declared = dict(bag["dags"]["rollback_model"]["dag"]["params"])
    schema = declared["reason"]["schema"]["__var"]
    assert jsonschema.Draft7Validator(schema).is_valid(reason) is accepted
    models = declared["model"]["schema"]["__var"]["enum"]
    assert {f"daily_retrain_{model}" for model in models} == MODELS


def test_a_broken_configuration_takes_only_its_own_dag_away(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dags", tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    broken = tmp_path / "configs" / "broken.yaml"
    broken.write_text(
        (ROOT / "configs" / "movielens_dlrm.yaml").read_text().replace("features:", "feetures:")
    )
    new = tmp_path / "configs" / "new.yaml"
    text = (ROOT / "configs" / "synthetic_dlrm.yaml").read_text().replace("synthetic_dlrm", "clicks")
    new.write_text(text.replace("airflow:", "airflow:\n  approval: true\n  on_refusal: skip"))
    bag = _python(INSPECT, tmp_path / "dags")
    assert set(bag["dags"]) == MODELS | OTHERS | {"daily_retrain_clicks"}  # a new model is a new file
    ((file, said),) = bag["errors"].items()
    assert Path(file).name == "configurations.py"
    assert "broken.yaml" in said
    tasks = {
        task["__var"]["task_id"]: task["__var"]
        for task in bag["dags"]["daily_retrain_clicks"]["dag"]["tasks"]
    }
    assert tasks["release.validate_model"]["downstream_task_ids"] == ["release.approve"]
    assert tasks["release.approve"]["downstream_task_ids"] == ["release.promote"]
