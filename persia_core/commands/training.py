"""`persia train` and `evaluate`."""

import argparse
from typing import Any

from persia_core.commands.arguments import Commands, open_both, stage


def _add_train(commands: Commands) -> None:
    parser = stage(commands, "train", "train on a hashed partition in one MPI job", _train)
    parser.add_argument("--run", required=True, dest="run_name", metavar="NAME", help="name of this run")
    parser.add_argument("--cold-start", action="store_true", help="begin without an earlier checkpoint")
    parser.add_argument(
        "--cold-start-dense",
        action="store_true",
        help="keep the embedding rows of the earlier checkpoint and begin with a new dense network",
    )


def _train(arguments: argparse.Namespace) -> Any:
    from persia_core.launch.train import train_partition

    config, store = open_both(arguments)
    return train_partition(
        config, store, arguments.ds, arguments.run_name, arguments.cold_start, arguments.cold_start_dense
    )


def _add_evaluate(commands: Commands) -> None:
    parser = stage(commands, "evaluate", "metrics of a published version on a hashed partition", _evaluate)
    parser.add_argument("--version", required=True, dest="model_version", metavar="VERSION")


def _evaluate(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.evaluate import evaluate_version

    config, store = open_both(arguments)
    return evaluate_version(config, store, arguments.model_version, arguments.ds)


COMMANDS = (_add_train, _add_evaluate)
