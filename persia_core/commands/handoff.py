"""`persia publish`, `promote` and `models`: from a run to the champion."""

import argparse
from typing import Any

from persia_core.commands.arguments import Commands, open_both, stage


def _add_publish(commands: Commands) -> None:
    parser = stage(commands, "publish", "store a run's checkpoint and its serving export", _publish)
    parser.add_argument(
        "--run", required=True, dest="run_name", metavar="NAME", help="name of the training run"
    )


def _publish(arguments: argparse.Namespace) -> Any:
    from persia_core.checkpoint.layout import run_directory
    from persia_core.config.home import work_dir
    from persia_core.handoff.publish import publish

    config, store = open_both(arguments)
    run_dir = run_directory(work_dir(), config.name, arguments.ds, arguments.run_name)
    return publish(config, store, arguments.ds, run_dir)


def _add_promote(commands: Commands) -> None:
    parser = stage(commands, "promote", "make a validated version the champion", _promote, ds=False)
    parser.add_argument("--version", required=True, dest="model_version", metavar="VERSION")
    parser.add_argument("--reason", default="passed validation", help="kept with the pointer (%(default)s)")


def _promote(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.promote import promote

    config, store = open_both(arguments)
    return promote(config, store, arguments.model_version, reason=arguments.reason)


def _add_models(commands: Commands) -> None:
    parser = commands.add_parser("models", help="list the versions of a model, or show one")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    stage(actions, "list", "versions, newest first, with champion and candidate", _models_list, ds=False)
    show = stage(actions, "show", "one version: metrics, lineage, verdict", _models_show, ds=False)
    show.add_argument("--version", required=True, dest="model_version", metavar="VERSION")


def _models_list(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.models import list_versions

    config, store = open_both(arguments)
    return list_versions(store, config.name)


def _models_show(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.models import show_version

    config, store = open_both(arguments)
    return show_version(store, config.name, arguments.model_version)


COMMANDS = (_add_publish, _add_promote, _add_models)
