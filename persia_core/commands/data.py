"""`persia data` and `hash`: from raw files to a hashed partition."""

import argparse
from pathlib import Path
from typing import Any

from persia_core.commands.arguments import Commands, day, open_both, stage


def _add_data(commands: Commands) -> None:
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
    stage(actions, "landed", "say whether a raw partition has arrived, and which files it has", _data_landed)
    days = stage(
        actions, "days", "the raw partitions of a range of days that have arrived", _data_days, ds=False
    )
    days.add_argument(
        "--first", required=True, type=day, metavar="YYYY-MM-DD", help="the first day, included"
    )
    days.add_argument("--last", required=True, type=day, metavar="YYYY-MM-DD", help="the last day, included")
    land = stage(actions, "land", "upload raw files as one partition", _data_land)
    land.add_argument("files", nargs="+", type=Path, metavar="FILE")


def _data_movielens(arguments: argparse.Namespace) -> None:
    from persia_core.config.home import persia_home
    from persia_core.data.movielens import fetch_movielens, write_movielens

    for entry in write_movielens(fetch_movielens(persia_home() / "cache"), arguments.out):
        print(entry)


def _data_synth(arguments: argparse.Namespace) -> None:
    from persia_core.data.synthetic import synthesize

    for made in synthesize(arguments.out, arguments.rows, arguments.days, arguments.seed):
        print(made)


def _data_land(arguments: argparse.Namespace) -> Any:
    from persia_core.data.raw import land_partition

    config, store = open_both(arguments)
    return land_partition(store, config.dataset.name, arguments.ds, arguments.files)


def _data_landed(arguments: argparse.Namespace) -> Any:
    from persia_core.data.raw import require_landed

    config, store = open_both(arguments)
    return require_landed(store, config.dataset.name, arguments.ds)


def _data_days(arguments: argparse.Namespace) -> Any:
    from persia_core.data.raw import landed_days

    config, store = open_both(arguments)
    return landed_days(store, config.dataset.name, arguments.first, arguments.last)


def _add_hash(commands: Commands) -> None:
    parser = stage(commands, "hash", "hash a raw partition to 64-bit ids, with Spark", _hash)
    parser.add_argument("--replace", action="store_true", help="replace a partition with other content")


def _hash(arguments: argparse.Namespace) -> Any:
    from persia_core.data.hashing import hash_partition

    config, store = open_both(arguments)
    return hash_partition(config, store, arguments.ds, replace=arguments.replace)


COMMANDS = (_add_data, _add_hash)
