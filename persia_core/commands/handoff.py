"""`persia publish`, `promote`, `rollback` and `models`: from a run to the champion."""

import argparse
from pathlib import Path
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
    parser.add_argument("--reason", help="kept with the pointer and in its history (passed validation)")
    parser.add_argument("--who", metavar="NAME", help="who decided it; kept in the history")
    parser.add_argument(
        "--force",
        action="store_true",
        help="overrule the verdict, or a rollback; needs --reason and --who. Checksums and the order of "
        "partitions are not overruled",
    )


def _promote(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.promote import promote

    config, store = open_both(arguments)
    reason = arguments.reason or ("" if arguments.force else "passed validation")
    version, who, force = arguments.model_version, arguments.who, arguments.force
    return promote(config, store, version, reason=reason, who=who, force=force)


def _add_rollback(commands: Commands) -> None:
    parser = stage(commands, "rollback", "make an earlier version champion again", _rollback, ds=False)
    parser.add_argument("--version", "--to", required=True, dest="model_version", metavar="VERSION")
    parser.add_argument("--reason", required=True, help="kept with the pointer and in its history")
    parser.add_argument("--who", metavar="NAME", help="who decided it (the name of this user)")


def _rollback(arguments: argparse.Namespace) -> Any:
    import getpass

    from persia_core.handoff.rollback import rollback

    config, store = open_both(arguments)
    who = arguments.who or getpass.getuser()
    return rollback(config, store, arguments.model_version, reason=arguments.reason, who=who)


def _add_models(commands: Commands) -> None:
    parser = commands.add_parser("models", help="list the versions of a model, or show one")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    stage(actions, "list", "versions, newest first, with champion and candidate", _models_list, ds=False)
    fetch = stage(
        actions,
        "fetch",
        "bring a version to this host, every byte checked, only what changed",
        _models_fetch,
        ds=False,
    )
    fetch.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="a folder per version goes here"
    )
    fetch.add_argument("--alias", default="champion", metavar="NAME", help="which version (%(default)s)")
    show = stage(actions, "show", "one version: metrics, lineage, verdict", _models_show, ds=False)
    show.add_argument("--version", required=True, dest="model_version", metavar="VERSION")

    stage(actions, "history", "what was champion, newest first: who, when and why", _models_history, ds=False)


def _models_history(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.models import champion_history

    config, store = open_both(arguments)
    return champion_history(store, config.name)


def _models_list(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.models import list_versions

    config, store = open_both(arguments)
    return list_versions(store, config.name)


def _models_fetch(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.consume import fetch

    config, store = open_both(arguments)
    return fetch(store, config.name, arguments.out, arguments.alias).summary()


def _models_show(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.models import show_version

    config, store = open_both(arguments)
    return show_version(store, config.name, arguments.model_version)


COMMANDS = (_add_publish, _add_promote, _add_rollback, _add_models)
