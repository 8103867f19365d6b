"""`persia config`: what a configuration asks for."""

import argparse
from pathlib import Path

from persia_core.commands.arguments import Commands
from persia_core.config import load_config


def _add_config(commands: Commands) -> None:
    parser = commands.add_parser("config", help="check a configuration and show what it asks for")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check", help="print the resolved configuration and the plan of ranks and memory"
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_config_check)


def _config_check(arguments: argparse.Namespace) -> None:
    import torch
    import yaml

    from persia_core.config.plan import plan_of
    from persia_core.training.dense import DenseTraining

    config = load_config(arguments.file)
    DenseTraining.build(config, torch.device("cpu"))  # names and arguments that only torch can judge
    plan = plan_of(config)
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
    workers = f"{plan.embedding_workers} embedding workers + " if plan.embedding_workers else ""
    print(
        f"\n# plan: {plan.ranks} ranks = {plan.servers} embedding servers + {workers}{plan.trainers} trainers"
    )
    print(f"# {'table':<24}{'dim':>6}{'bytes/row':>12}{'rows/server':>14}{'bytes/server':>16}")
    for table in plan.tables:
        print(
            f"# {table.name:<24}{table.dim:>6}{table.bytes_per_row:>12,}"
            f"{table.rows_per_server:>14,}{table.bytes_per_server:>16,}"
        )
    print(f"# {'all':<24}{'':>6}{'':>12}{'':>14}{plan.bytes_per_server:>16,}")


COMMANDS = (_add_config,)
