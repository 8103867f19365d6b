"""`persia serve`: answer prediction requests over HTTP."""

import argparse
from pathlib import Path

from persia_core.commands.arguments import Commands, open_both, stage


def _add_serve(commands: Commands) -> None:
    parser = stage(
        commands, "serve", "answer requests over HTTP with the champion, following it", _serve, ds=False
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="(%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="0: any that is free (%(default)s)"
    )
    parser.add_argument(
        "--follow-every", type=float, default=10.0, metavar="SECONDS",
        help="between two looks at the champion pointer (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keeps downloaded versions (default: under PERSIA_HOME)"
    )


def _serve(arguments: argparse.Namespace) -> None:
    from persia_core.config.home import persia_home
    from persia_core.serve.main import serve

    config, store = open_both(arguments)
    cache = arguments.cache or persia_home() / "served"
    serve(config, store, cache, arguments.host, arguments.port, arguments.follow_every)


COMMANDS = (_add_serve,)
