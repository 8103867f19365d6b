"""`persia clean`: what killed jobs have left on this host."""

import argparse
from typing import Any

from persia_core.commands.arguments import Commands


def _add_clean(commands: Commands) -> None:
    summary = "show what killed jobs have left on this host, and remove it with --yes"
    parser = commands.add_parser(
        "clean",
        help=summary,
        description=f"{summary}: segments of shared memory with mpiexec's session, run directories whose "
        "training did not come to an end, parent checkpoints, tables in memory of runs that no job "
        "trains, and what was kept of published runs for retention.run_files_days. Never what a living job "
        "uses, and no finished run that is not published. A run that is removed begins anew when it is tried "
        "again.",
    )
    parser.add_argument("--yes", action="store_true", help="remove it; without this, it is only shown")
    parser.set_defaults(run=_clean)


def _clean(arguments: argparse.Namespace) -> Any:
    from persia_core.config.home import work_dir
    from persia_core.launch.leftovers import find_leftovers, remove

    found = find_leftovers(work_dir())
    removed = [each for each in found if arguments.yes and remove(each)]
    return {
        "leftovers": [{**each.model_dump(mode="json"), "removed": each in removed} for each in found],
        "bytes": sum(each.bytes for each in found),
        "bytes_freed": sum(each.bytes for each in removed),
        "next": None if arguments.yes or not found else "persia clean --yes removes them",
    }


COMMANDS = (_add_clean,)
