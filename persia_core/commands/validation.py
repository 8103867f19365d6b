"""`persia validate`: a hashed partition, or a published model."""

import argparse
from typing import Any

from persia_core.commands.arguments import Commands, open_both, stage


def _add_validate(commands: Commands) -> None:
    parser = commands.add_parser("validate", help="validate a hashed partition or a published model")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    stage(actions, "data", "check a hashed partition with Great Expectations", _validate_data)
    model = stage(
        actions, "model", "read a version back, verify it, and apply the gate", _validate_model, ds=False
    )
    model.add_argument("--version", required=True, dest="model_version", metavar="VERSION")


def _validate_data(arguments: argparse.Namespace) -> Any:
    from persia_core.validation.data_suite import validate_partition

    config, store = open_both(arguments)
    return validate_partition(config, store, arguments.ds)


def _validate_model(arguments: argparse.Namespace) -> Any:
    from persia_core.validation.model import validate_model

    config, store = open_both(arguments)
    return validate_model(config, store, arguments.model_version)


COMMANDS = (_add_validate,)
