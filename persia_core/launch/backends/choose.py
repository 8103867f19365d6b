"""The client of the back end that a configuration names."""

from pathlib import Path

from persia_core.config.back_end import BackEnd, KubernetesBackEnd, SlurmBackEnd
from persia_core.launch.backends.interface import BackEndClient
from persia_core.launch.backends.kubernetes import KubernetesBackEndClient
from persia_core.launch.backends.local import LocalBackEndClient
from persia_core.launch.backends.slurm import SlurmBackEndClient


def client_of(section: BackEnd, project: Path) -> BackEndClient:
    """`project` is the directory that templates are relative to."""
    if isinstance(section, SlurmBackEnd):
        return SlurmBackEndClient(section, project)
    if isinstance(section, KubernetesBackEnd):
        return KubernetesBackEndClient(section, project)
    return LocalBackEndClient()
