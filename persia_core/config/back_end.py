"""Where the MPI job of a training run runs: on the worker itself, under Slurm, or in Kubernetes."""

from typing import Annotated, Literal

from pydantic import Field

from persia_core.config.base import Section

# One word of a command line: it cannot be taken for an option.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@=,+-]{0,127}$")]
DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]


class LocalBackEnd(Section):
    """On the host of the Airflow worker, detached from the task."""

    kind: Literal["local"] = "local"


class SlurmBackEnd(Section):
    """One Slurm job on one node. PERSIA_HOME must lie on a file system that node and worker share."""

    kind: Literal["slurm"]
    template: str = "infra/slurm/train.sbatch"  # relative to the project directory
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    gres: Word | None = None  # gpu:2
    cpus: Annotated[int, Field(ge=1)] = 4
    memory_gb: Annotated[int, Field(ge=1)] = 16
    time_limit_h: Annotated[float, Field(gt=0)] = 24.0


class KubernetesBackEnd(Section):
    """One Kubernetes Job with one pod. Its volume claim must hold PERSIA_HOME, which the worker shares."""

    kind: Literal["kubernetes"]
    template: str = "infra/kubernetes/train_job.yaml"  # relative to the project directory
    namespace: DnsLabel = "persia"
    image: Word
    volume_claim: DnsLabel  # mounted at PERSIA_HOME
    secret: DnsLabel | None = None  # whose keys become environment: AWS_ACCESS_KEY_ID and so on
    cpus: Annotated[int, Field(ge=1)] = 4
    memory_gb: Annotated[int, Field(ge=1)] = 16
    gpus: Annotated[int, Field(ge=0)] = 0
    time_limit_h: Annotated[float, Field(gt=0)] = 24.0


BackEnd = Annotated[LocalBackEnd | SlurmBackEnd | KubernetesBackEnd, Field(discriminator="kind")]
