"""`persia order` and `job`: a day's turn to be trained, and the job that trains it."""

import argparse
from typing import Any

from persia_core.commands.arguments import Commands, open_both, stage


def _add_order(commands: Commands) -> None:
    parser = stage(commands, "order", "whether a day may be trained now, and from which checkpoint", _order)
    parser.add_argument("--cold-start", action="store_true", help="begin without an earlier checkpoint")
    parser.add_argument(
        "--cold-start-dense",
        action="store_true",
        help="keep the embedding rows of the earlier checkpoint and begin with a new dense network",
    )
    parser.add_argument(
        "--skip-earlier-days", action="store_true", help="leave out landed days without a checkpoint"
    )
    parser.add_argument(
        "--again", default="", metavar="NAME", help="train again what was trained on the same data"
    )


def _order(arguments: argparse.Namespace) -> Any:
    from persia_core.checkpoint.order import take_turn

    config, store = open_both(arguments)
    return take_turn(
        config,
        store,
        arguments.ds,
        cold_start=arguments.cold_start,
        cold_start_dense=arguments.cold_start_dense,
        skip_earlier_days=arguments.skip_earlier_days,
        again=arguments.again,
    )


def _add_job(commands: Commands) -> None:
    parser = commands.add_parser("job", help="the training jobs that Airflow submits")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, summary, run in (
        ("show", "how the job of a run is, and where its files are", _show),
        (
            "end",
            "end the job of a run if it still runs, and remove its working files once they are published",
            _end,
        ),
    ):
        action = stage(actions, name, summary, run)
        action.add_argument(
            "--run", dest="run_name", default="", metavar="NAME", help="name of the training run"
        )


def _show(arguments: argparse.Namespace) -> Any:
    from persia_core.launch.end_run import show_job

    config, _ = open_both(arguments)
    return show_job(config, arguments.ds, arguments.run_name)


def _end(arguments: argparse.Namespace) -> Any:
    from persia_core.launch.end_run import end_run

    config, store = open_both(arguments)
    return end_run(config, store, arguments.ds, arguments.run_name)


COMMANDS = (_add_order, _add_job)
