"""Every DAG run to its end by dag.test(): the commands it gives are ones that `persia` takes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
result = {"run": "run-0", "version": "2026-11-20-0123456789ab"}
if sys.argv[1:3] == ["data", "days"]:
    result = ["2026-11-20", "2026-11-21"]
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
RUNS: list[tuple[str, dict[str, Any], str | None]] = [
    ("daily_retrain_synthetic_dlrm", {"ds": "2026-11-20", "cold_start": True}, None),
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
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[list[str]]]:
    """{DAG: (state of its run, states of its tasks)}, and every command that was given, in order."""
    root = tmp_path_factory.mktemp("dag-runs")
    (root / "program.py").write_text(PROGRAM)
    environment = os.environ | {
        "AIRFLOW_HOME": str(root / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT),
        "PERSIA_HOME": str(root / "home"),
        "PERSIA_PROJECT": str(ROOT),
        "PERSIA_SCHEDULES": "off",
        "COMMANDS": str(root / "commands"),
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(migrate, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    command = [sys.executable, "-c", RUN, str(ROOT / "dags"), str(root / "program.py"), json.dumps(RUNS)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    lines = [line.partition("RESULT")[2] for line in done.stdout.splitlines() if "RESULT" in line]
    states = {name: (state, tasks) for name, state, tasks in map(json.loads, lines)}
    return states, [json.loads(line) for line in (root / "commands").read_text().splitlines()]


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
        ["order", *DAY, "--cold-start"],
        ["train", *DAY, "--run", "run-0", "--cold-start"],
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
