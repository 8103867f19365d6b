"""The commands of `persia`: their arguments, and the function that each calls.

Nothing heavy is imported before a command runs, so that `--help` is quick.
"""

import argparse
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig, load_config

_Commands = Any  # argparse keeps the type of its sub-parsers private


def _stage(
    commands: _Commands, name: str, summary: str, run: Any, *, ds: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="YAML file of the model")
    if ds:
        parser.add_argument("--ds", required=True, type=_ds, metavar="YYYY-MM-DD", help="the partition")
    parser.add_argument("--result-file", metavar="FILE", help="write the result there as JSON")
    parser.set_defaults(run=run)
    return parser


def _ds(text: str) -> str:
    from persia_core.handoff.layout import check_ds

    try:
        return check_ds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _open(arguments: argparse.Namespace) -> tuple[ModelConfig, Any]:
    from persia_core.handoff.object_store import open_store

    config = load_config(arguments.config)
    return config, open_store(config.storage)


def _add_config(commands: _Commands) -> None:
    parser = commands.add_parser("config", help="check a configuration and show what it asks for")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check", help="print the resolved configuration and the plan of ranks and memory"
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_config_check)


def _config_check(arguments: argparse.Namespace) -> None:
    import torch
    import yaml

    from persia_core.config.plan import plan_of
    from persia_core.training.dense import DenseTraining

    config = load_config(arguments.file)
    DenseTraining.build(config, torch.device("cpu"))  # names and arguments that only torch can judge
    plan = plan_of(config)
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
    workers = f"{plan.embedding_workers} embedding workers + " if plan.embedding_workers else ""
    print(
        f"\n# plan: {plan.ranks} ranks = {plan.servers} embedding servers + {workers}{plan.trainers} trainers"
    )
    print(f"# {'table':<24}{'dim':>6}{'bytes/row':>12}{'rows/server':>14}{'bytes/server':>16}")
    for table in plan.tables:
        print(
            f"# {table.name:<24}{table.dim:>6}{table.bytes_per_row:>12,}"
            f"{table.rows_per_server:>14,}{table.bytes_per_server:>16,}"
        )
    print(f"# {'all':<24}{'':>6}{'':>12}{'':>14}{plan.bytes_per_server:>16,}")


def _add_data(commands: _Commands) -> None:
    parser = commands.add_parser("data", help="get, make or land raw partitions")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    movielens = actions.add_parser(
        "movielens", help="MovieLens-100K as a bootstrap and three weekly partitions"
    )
    movielens.add_argument("--out", required=True, type=Path, metavar="DIR")
    movielens.set_defaults(run=_data_movielens)
    synth = actions.add_parser("synth", help="a synthetic click log with a known best possible AUC")
    synth.add_argument("--rows", type=int, default=20_000, metavar="N", help="rows of each day (%(default)s)")
    synth.add_argument("--days", type=int, default=4, metavar="N", help="number of days (%(default)s)")
    synth.add_argument("--seed", type=int, default=42, metavar="S", help="(%(default)s)")
    synth.add_argument("--out", required=True, type=Path, metavar="DIR")
    synth.set_defaults(run=_data_synth)
    land = _stage(actions, "land", "upload raw files as one partition", _data_land)
    land.add_argument("files", nargs="+", type=Path, metavar="FILE")


def _data_movielens(arguments: argparse.Namespace) -> None:
    from persia_core.config.home import persia_home
    from persia_core.data.movielens import fetch_movielens, write_movielens

    for entry in write_movielens(fetch_movielens(persia_home() / "cache"), arguments.out):
        print(entry)


def _data_synth(arguments: argparse.Namespace) -> None:
    from persia_core.data.synthetic import synthesize

    for day in synthesize(arguments.out, arguments.rows, arguments.days, arguments.seed):
        print(day)


def _data_land(arguments: argparse.Namespace) -> Any:
    from persia_core.data.raw import land_partition

    config, store = _open(arguments)
    return land_partition(store, config.dataset.name, arguments.ds, arguments.files)


def _add_hash(commands: _Commands) -> None:
    parser = _stage(commands, "hash", "hash a raw partition to 64-bit ids, with Spark", _hash)
    parser.add_argument("--replace", action="store_true", help="replace a partition with other content")


def _hash(arguments: argparse.Namespace) -> Any:
    from persia_core.data.hashing import hash_partition

    config, store = _open(arguments)
    return hash_partition(config, store, arguments.ds, replace=arguments.replace)


def _add_train(commands: _Commands) -> None:
    parser = _stage(commands, "train", "train on a hashed partition in one MPI job", _train)
    parser.add_argument("--run", required=True, dest="run_name", metavar="NAME", help="name of this run")
    parser.add_argument("--cold-start", action="store_true", help="begin without an earlier checkpoint")


def _train(arguments: argparse.Namespace) -> Any:
    from persia_core.launch.train import train_partition

    config, store = _open(arguments)
    return train_partition(config, store, arguments.ds, arguments.run_name, arguments.cold_start)


def _add_evaluate(commands: _Commands) -> None:
    parser = _stage(commands, "evaluate", "metrics of a published version on a hashed partition", _evaluate)
    parser.add_argument("--version", required=True, dest="model_version", metavar="VERSION")


def _evaluate(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.evaluate import evaluate_version

    config, store = _open(arguments)
    return evaluate_version(config, store, arguments.model_version, arguments.ds)


def _add_publish(commands: _Commands) -> None:
    parser = _stage(commands, "publish", "store a run's checkpoint and its serving export", _publish)
    parser.add_argument(
        "--run", required=True, dest="run_name", metavar="NAME", help="name of the training run"
    )


def _publish(arguments: argparse.Namespace) -> Any:
    from persia_core.checkpoint.layout import run_directory
    from persia_core.config.home import work_dir
    from persia_core.handoff.publish import publish

    config, store = _open(arguments)
    run_dir = run_directory(work_dir(), config.name, arguments.ds, arguments.run_name)
    return publish(config, store, arguments.ds, run_dir)


def _add_validate(commands: _Commands) -> None:
    parser = commands.add_parser("validate", help="validate a hashed partition or a published model")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _stage(actions, "data", "check a hashed partition with Great Expectations", _validate_data)
    model = _stage(
        actions, "model", "read a version back, verify it, and apply the gate", _validate_model, ds=False
    )
    model.add_argument("--version", required=True, dest="model_version", metavar="VERSION")


def _validate_data(arguments: argparse.Namespace) -> Any:
    from persia_core.validation.data_suite import validate_partition

    config, store = _open(arguments)
    return validate_partition(config, store, arguments.ds)


def _validate_model(arguments: argparse.Namespace) -> Any:
    from persia_core.validation.model import validate_model

    config, store = _open(arguments)
    return validate_model(config, store, arguments.model_version)


def _add_promote(commands: _Commands) -> None:
    parser = _stage(commands, "promote", "make a validated version the champion", _promote, ds=False)
    parser.add_argument("--version", required=True, dest="model_version", metavar="VERSION")
    parser.add_argument("--reason", default="passed validation", help="kept with the pointer (%(default)s)")


def _promote(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.promote import promote

    config, store = _open(arguments)
    return promote(config, store, arguments.model_version, reason=arguments.reason)


def _add_models(commands: _Commands) -> None:
    parser = commands.add_parser("models", help="list the versions of a model, or show one")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _stage(actions, "list", "versions, newest first, with champion and candidate", _models_list, ds=False)
    show = _stage(actions, "show", "one version: metrics, lineage, verdict", _models_show, ds=False)
    show.add_argument("--version", required=True, dest="model_version", metavar="VERSION")


def _models_list(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.models import list_versions

    config, store = _open(arguments)
    return list_versions(store, config.name)


def _models_show(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.models import show_version

    config, store = _open(arguments)
    return show_version(store, config.name, arguments.model_version)


def _add_platform(commands: _Commands) -> None:
    parser = commands.add_parser("platform", help="the local platform: Airflow and an S3 endpoint")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, summary in (
        ("up", "start it and say where it is"),
        ("down", "stop exactly what `up` started"),
        ("status", "say what runs"),
    ):
        action = actions.add_parser(name, help=summary, description=summary)
        action.set_defaults(run=_platform, action=name)


def _platform(arguments: argparse.Namespace) -> None:
    from persia_core.platform import commands

    getattr(commands, arguments.action)()


def _add_demo(commands: _Commands) -> None:
    parser = commands.add_parser(
        "demo", help="the daily retrain on real data, three logical days, through Airflow"
    )
    parser.add_argument("--keep", action="store_true", help="leave the platform running to look around")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> None:
    from persia_core.demo.run import run_demo

    run_demo(keep=arguments.keep)


COMMANDS = (
    _add_demo,
    _add_data,
    _add_hash,
    _add_train,
    _add_evaluate,
    _add_publish,
    _add_validate,
    _add_promote,
    _add_models,
    _add_config,
    _add_platform,
)
