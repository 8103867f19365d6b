"""`persia retire` and `persia sweep`: what is deleted from the object store, and only when told to."""

import argparse
from typing import Any

from persia_core.commands.arguments import Commands, open_both, stage


def _add_retire(commands: Commands) -> None:
    parser = stage(commands, "retire", "delete what the retention policy does not keep", _retire, ds=False)
    parser.add_argument("--apply", action="store_true", help="delete; without it nothing is, only shown")


def _retire(arguments: argparse.Namespace) -> Any:
    from persia_core.handoff.retire import retire

    config, store = open_both(arguments)
    return retire(config, store, apply=arguments.apply)


def _add_sweep(commands: Commands) -> None:
    parser = stage(
        commands, "sweep", "delete what attempts that never finished left behind", _sweep, ds=False
    )
    parser.add_argument(
        "--older-than-hours",
        type=_hours,
        default=24.0,
        metavar="HOURS",
        help="nothing was added to it for so long, one hour at least (%(default)s)",
    )
    parser.add_argument("--apply", action="store_true", help="delete; without it nothing is, only shown")


def _hours(text: str) -> float:
    hours = float(text)
    if not hours >= 1:
        raise argparse.ArgumentTypeError("give an hour at least: younger parts may be of a stage at work")
    return hours


def _sweep(arguments: argparse.Namespace) -> Any:
    import time

    from persia_core.handoff.sweep import sweep

    config, store = open_both(arguments)
    older_than_s = arguments.older_than_hours * 3600
    return sweep(config, store, older_than_s=older_than_s, now=time.time(), apply=arguments.apply)


COMMANDS = (_add_retire, _add_sweep)
