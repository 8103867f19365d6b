"""Every DAG run to its end by dag.test(): the commands it gives are ones that `persia` takes.

Airflow's OpenLineage provider listens, and writes what the tasks say of their data to a file.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from persia_core.data.hashing import HashResult
from persia_core.handoff.champion import Promotion
from persia_core.handoff.publish import PublishResult
from persia_core.launch.train import TrainResult
from persia_core.validation.data_verdict import Check, DataVerdict
from persia_core.validation.verdict import ModelCheck, ModelVerdict

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
VERSION = "2026-11-20-0123456789ab"

# Stands in for `persia`: lets the real parser judge the arguments, and notes them.
PROGRAM = """
import json, os, pathlib, sys
from persia_core.cli import build_parser
arguments = build_parser().parse_args(sys.argv[1:])
with open(os.environ["COMMANDS"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
results = json.loads(pathlib.Path(os.environ["RESULTS"]).read_text())
stage = getattr(arguments, "stage", None)
result = results.get(stage, {"run": "run-0", "version": "2026-11-20-0123456789ab"})
if getattr(arguments, "result_file", None):
    pathlib.Path(arguments.result_file).write_text(json.dumps(result))
"""

RUN = """
import json, logging, sys
sys.path.insert(0, sys.argv[1])
from persia_core.airflow.operators import PersiaOperator
PersiaOperator.program = (sys.argv[2],)
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
for name, params, marked in json.loads(sys.argv[3]):
    run = bag.dags[name].test(logical_date=None, run_conf=params, mark_success_pattern=marked)
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    print("RESULT" + json.dumps([name, str(run.state), states]), flush=True)
"""

DAY = ["--config", "configs/synthetic_dlrm.yaml", "--ds", "2026-11-20"]
OF_VERSION = ["--config", "configs/synthetic_dlrm.yaml", "--version", VERSION]
REASON = "--looks like an option; and more"
Events = list[dict[str, Any]]

# What the stages of a day return, by their own classes.
RESULTS: dict[str, Any] = {
    "data_days": ["2026-11-20", "2026-11-21"],
    "hash": asdict(
        HashResult(
            *("synthetic-clicks", "2026-11-20", "s3://bucket/prefix/x", "d" * 64),
            *(100, 98, {"label": 2}, {}, 0.3, 2, 4096, False, 1.5),
        )
    ),
    "validate_data": DataVerdict(
        verdict="warn",
        dataset="synthetic-clicks",
        ds="2026-11-20",
        hashed_digest="d" * 64,
        rows=98,
        sampled_rows=98,
        history="",
        compared_with=[],
        checks=[
            Check(name=name, status=status, observed=1, expected="", reason="")
            for name, status in (("rows", "pass"), ("label rate", "warn"))
        ],
        data_docs="x",
        data_docs_uri="x",
    ).model_dump(mode="json"),
    "train": TrainResult(
        run="run-0",
        run_dir="run-0",
        parent="checkpoints/synthetic_dlrm/ds=2026-11-19/run/",
        metrics={"rows_in": 98, "table_rows": {"user": 3, "item": 4}},
    ).model_dump(mode="json"),
    "publish": asdict(
        PublishResult(
            *(VERSION, "checkpoints/synthetic_dlrm/ds=2026-11-20/run-0/", "e" * 64, "f" * 64),
            *("2026-11-19-ba9876543210", VERSION, 777),
        )
    ),
    "validate_model": ModelVerdict(
        version=VERSION,
        ds="2026-11-20",
        manifest_sha256="f" * 64,
        champion="2026-11-18-000000000000",
        passed=True,
        checks=[ModelCheck(name="parity", passed=True, reason="")],
        summary="",
        metrics={},
    ).model_dump(mode="json"),
    "promote": asdict(Promotion(VERSION, "2026-11-20", "2026-11-18-000000000000", moved=True)),
}
RUNS: list[tuple[str, dict[str, Any], str | None]] = [
    (
        "daily_retrain_synthetic_dlrm",
        {"ds": "2026-11-20", "cold_start": True, "cold_start_dense": True},
        None,
    ),
    ("rollback_model", {"model": "synthetic_dlrm", "version": VERSION, "reason": REASON}, None),
    ("housekeeping", {}, None),
    (
        "bootstrap_model",
        {"model": "synthetic_dlrm", "first": "2026-11-20", "last": "2026-11-21"},
        "train_day",  # a run of another DAG, which only a scheduler starts
    ),
    ("example_consumer_synthetic_dlrm", {"version": VERSION}, None),
]


@pytest.fixture(scope="module")
def outcome(
    tmp_path_factory: pytest.TempPathFactory, airflow_database: Path
) -> tuple[dict[str, Any], list[list[str]], Events]:
    """{DAG: (state of its run, states of its tasks)}; every command that was given, in order; the events."""
    root = tmp_path_factory.mktemp("dag-runs")
    (root / "program.py").write_text(PROGRAM)
    (root / "results").write_text(json.dumps(RESULTS))
    environment = os.environ | {
        "AIRFLOW_HOME": str(root / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{root / 'airflow' / 'airflow.db'}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT),
        "PERSIA_HOME": str(root / "home"),
        "PERSIA_PROJECT": str(ROOT),
        "PERSIA_SCHEDULES": "off",
        "COMMANDS": str(root / "commands"),
        "RESULTS": str(root / "results"),
        "PERSIA_STORAGE_URL": "s3://bucket/prefix",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(root / "lineage"), "append": True}
        ),
        "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "60",
    }
    shutil.copytree(airflow_database, root / "airflow")
    command = [sys.executable, "-c", RUN, str(ROOT / "dags"), str(root / "program.py"), json.dumps(RUNS)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    lines = [line.partition("RESULT")[2] for line in done.stdout.splitlines() if "RESULT" in line]
    decoder = json.JSONDecoder()  # another process may log on before the line ends
    said = [decoder.raw_decode(line)[0] for line in lines]
    states = {name: (state, tasks) for name, state, tasks in said}
    commands = [json.loads(line) for line in (root / "commands").read_text().splitlines()]
    return states, commands, [json.loads(line) for line in (root / "lineage").read_text().splitlines()]


@pytest.mark.parametrize("name", [name for name, _, _ in RUNS])
def test_a_run_of_each_dag_succeeds(outcome: Any, name: str) -> None:
    state, tasks = outcome[0][name]
    assert state == "success"
    assert set(tasks.values()) == {"success"}


def _without_result(command: list[str]) -> list[str]:
    return command[: command.index("--result-file")] if "--result-file" in command else command


def test_the_commands_of_a_day(outcome: Any) -> None:
    given = [_without_result(command) for command in outcome[1]]
    assert given[:9] == [
        ["data", "landed", *DAY],
        ["hash", *DAY],
        ["validate", "data", *DAY],
        ["order", *DAY, "--cold-start", "--cold-start-dense"],
        ["train", *DAY, "--run", "run-0", "--cold-start", "--cold-start-dense"],
        ["publish", *DAY, "--run", "run-0"],
        ["validate", "model", *OF_VERSION],
        ["promote", *OF_VERSION],
        ["job", "end", *DAY, "--run=run-0"],
    ]


def test_the_commands_of_the_other_dags(outcome: Any) -> None:
    given = [_without_result(command) for command in outcome[1][9:]]
    who = "--who=dag_test"  # what dag.test() calls who started the run
    assert given[0] == ["rollback", *OF_VERSION, f"--reason={REASON}", who]
    housekeeping = given[1:6]
    assert sorted(housekeeping) == sorted(
        [
            *(
                [what, "--config", f"configs/{model}.yaml", "--apply"]
                for what in ("retire", "sweep")
                for model in ("movielens_dlrm", "synthetic_dlrm")
            ),
            ["clean", "--yes"],
        ]
    )
    days = ["--first", "2026-11-20", "--last", "2026-11-21"]
    assert given[6] == ["data", "days", "--config", "configs/synthetic_dlrm.yaml", *days]
    assert given[7:] == [["models", "show", *OF_VERSION]]


def event_of(outcome: Any, task: str) -> Any:
    """What the task's COMPLETE event says: ({name: inputs}, {name: outputs})."""
    name = f"daily_retrain_synthetic_dlrm.{task}"
    [event] = [e for e in outcome[2] if e["job"]["name"] == name and e["eventType"] == "COMPLETE"]
    return [{dataset["name"]: dataset for dataset in event[side]} for side in ("inputs", "outputs")]


def test_lineage_of_a_hashed_partition_has_schema_version_and_rows(outcome: Any) -> None:
    inputs, outputs = event_of(outcome, "prepare.hash_features")
    raw, hashed = (f"prefix/{kind}/synthetic-clicks/ds=2026-11-20" for kind in ("raw", "hashed"))
    assert list(inputs) == [raw] and list(outputs) == [hashed]
    assert {each["namespace"] for each in (*inputs.values(), *outputs.values())} == {"s3://bucket"}
    assert inputs[raw]["inputFacets"]["inputStatistics"]["rowCount"] == 100
    made = outputs[hashed]
    assert made["facets"]["version"]["datasetVersion"] == "d" * 64
    statistics = made["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (98, 4096)
    config = yaml.safe_load((ROOT / "configs" / "synthetic_dlrm.yaml").read_text())
    fields = {field["name"]: field["type"] for field in made["facets"]["schema"]["fields"]}
    assert list(fields) == ["label", "time", *(feature["name"] for feature in config["features"])]
    assert {fields[f["name"]] for f in config["features"] if f["kind"] == "categorical"} == {"int64"}


def test_lineage_joins_the_stages_from_the_partition_to_the_champion(outcome: Any) -> None:
    hashed = "prefix/hashed/synthetic-clicks/ds=2026-11-20"
    version = f"prefix/models/synthetic_dlrm/versions/{VERSION}"
    checked, _ = event_of(outcome, "prepare.validate_partition")
    made = checked[hashed]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert {each["assertion"]: each["success"] for each in made} == {"rows": True, "label rate": True}
    inputs, outputs = event_of(outcome, "train.mpi_job")
    assert list(inputs) == [hashed, "prefix/checkpoints/synthetic_dlrm/ds=2026-11-19/run"]
    checkpoint = "prefix/checkpoints/synthetic_dlrm/ds=2026-11-20/run-0"
    assert outputs[checkpoint]["outputFacets"]["outputStatistics"]["rowCount"] == 7
    inputs, outputs = event_of(outcome, "release.publish")
    assert list(inputs) == [checkpoint, "prefix/models/synthetic_dlrm/versions/2026-11-19-ba9876543210"]
    assert outputs[version]["facets"]["version"]["datasetVersion"] == "f" * 64
    judged, _ = event_of(outcome, "release.validate_model")
    assert set(judged) == {version, hashed, "prefix/models/synthetic_dlrm/versions/2026-11-18-000000000000"}
    inputs, outputs = event_of(outcome, "release.promote")
    assert list(inputs) == [version]
    assert outputs["prefix/models/synthetic_dlrm/aliases/champion.json"]["facets"]["version"] == (
        outputs["prefix/models/synthetic_dlrm/aliases/champion.json"]["facets"]["version"]
        | {"datasetVersion": VERSION}
    )


def test_the_operators_need_no_openlineage_to_be_imported() -> None:
    for path in (ROOT / "persia_core" / "airflow").rglob("*.py"):
        for line in path.read_text().splitlines():  # at the top level: without indentation
            assert not line.startswith(("import openlineage", "from openlineage")), path
            assert not (line.startswith(("import", "from")) and "providers.openlineage" in line), path
