"""What the commands have in common: their usual arguments, and opening what these name."""

import argparse
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig, load_config

Commands = Any  # argparse keeps the type of its sub-parsers private


def stage(
    commands: Commands, name: str, summary: str, run: Any, *, ds: bool = True
) -> argparse.ArgumentParser:
    """A command of one model: `--config`, `--ds` unless told not to, `--result-file`.

    Its name with those before it, `validate_data` say, is what metrics call the stage.
    """
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="YAML file of the model")
    if ds:
        parser.add_argument("--ds", required=True, type=day, metavar="YYYY-MM-DD", help="the partition")
    parser.add_argument("--result-file", metavar="FILE", help="write the result there as JSON")
    parser.set_defaults(run=run, stage=parser.prog.partition(" ")[2].replace(" ", "_"))
    return parser


def day(text: str) -> str:
    """The type of an argument that names a partition."""
    from persia_core.handoff.layout import check_ds

    try:
        return check_ds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def open_both(arguments: argparse.Namespace) -> tuple[ModelConfig, Any]:
    """The configuration that `--config` names, and its object store."""
    from persia_core.handoff.object_store import open_store

    config = arguments.loaded_config = load_config(arguments.config)
    return config, open_store(config.storage)
