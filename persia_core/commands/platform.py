"""`persia demo` and `platform`."""

import argparse

from persia_core.commands.arguments import Commands


def _add_demo(commands: Commands) -> None:
    parser = commands.add_parser(
        "demo", help="the daily retrain on real data, three logical days, through Airflow"
    )
    parser.add_argument("--keep", action="store_true", help="leave the platform running to look around")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> None:
    from persia_core.demo.run import run_demo

    run_demo(keep=arguments.keep)


def _add_platform(commands: Commands) -> None:
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


COMMANDS = (_add_demo, _add_platform)
