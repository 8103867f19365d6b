"""What is asked of Slurm and of Kubernetes, checked against what their makers publish.

A real Slurm is asked in tests/slurm. A real Kubernetes was never asked.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from persia_core.config.back_end import KubernetesBackEnd, SlurmBackEnd
from persia_core.errors import ConfigError, EnvironmentProblem
from persia_core.launch.backends.interface import Phase
from persia_core.launch.backends.kubernetes import KubernetesBackEndClient, job_name
from persia_core.launch.backends.slurm import SlurmBackEndClient
from persia_core.launch.job_directory import JobDirectory, JobSpec

ROOT = Path(__file__).parents[2]
NAME = "movielens_dlrm-2026-11-20-run-0123456789abcdef"
SECRET = "not-for-anyone-7f3a"

# Long options of sbatch(1), squeue(1) and scancel(1) of Slurm 22.05, and whether they take a value.
SLURM_OPTIONS = {
    "sbatch": {
        **dict.fromkeys(["--parsable", "--no-requeue"], False),
        **dict.fromkeys(
            [
                *(
                    "--job-name",
                    "--dependency",
                    "--export",
                    "--nodes",
                    "--ntasks",
                    "--cpus-per-task",
                    "--mem",
                ),
                *("--time", "--output", "--open-mode", "--partition", "--account", "--qos", "--gres"),
            ],
            True,
        ),
    },
    "squeue": {"--noheader": False, "--states": True, "--name": True, "--format": True, "--sort": True},
    "scancel": {"--quiet": False, "--full": False, "--name": True},
}

# Stands in for one of Slurm's programs: notes its arguments and says what it is told to.
PROGRAM = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path({here!r})
name = pathlib.Path(sys.argv[0]).name
with (here / "calls").open("a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
print((here / name).read_text() if (here / name).exists() else "", end="")
"""


class Cluster:
    """A directory of stand-ins, first on the PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bin").mkdir()
        for name in SLURM_OPTIONS:
            program = root / "bin" / name
            program.write_text(PROGRAM.format(python=sys.executable, here=str(root)))
            program.chmod(0o755)

    def says(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def calls(self, name: str) -> list[list[str]]:
        file = self.root / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == name]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return made


@pytest.fixture
def job(tmp_path: Path) -> JobDirectory:
    return JobDirectory(tmp_path / "home" / "work", NAME)


SPEC = JobSpec(("-m", "persia_core.cli", "train"), "/project")
SLURM = SlurmBackEnd(kind="slurm", partition="batch", gres="gpu:2", cpus=16, memory_gb=64, time_limit_h=1.5)


def test_sbatch_is_told_name_resources_and_script_and_no_secret(cluster: Cluster, job: JobDirectory) -> None:
    cluster.says("sbatch", "4711;cluster\n")
    client = SlurmBackEndClient(SLURM, ROOT)
    said = client.submit(job, SPEC, os.environ | {"AWS_SECRET_ACCESS_KEY": SECRET})
    assert said == "submitted as Slurm job 4711"
    (arguments,) = cluster.calls("sbatch")
    options = dict(a.partition("=")[::2] for a in arguments if a.startswith("--"))
    for option, value in options.items():
        assert bool(value) is SLURM_OPTIONS["sbatch"][option], option
    assert options["--job-name"] == NAME
    assert options["--dependency"] == "singleton"
    assert (options["--cpus-per-task"], options["--mem"], options["--time"]) == ("16", "64G", "90")
    assert (options["--partition"], options["--gres"]) == ("batch", "gpu:2")
    assert options["--output"] == str(job.output)
    assert arguments[-3:] == [str(ROOT / "infra/slurm/train.sbatch"), sys.executable, str(job.path)]
    assert all(a.startswith("--") for a in arguments[:-3])
    kept = "".join(path.read_text() for path in job.path.iterdir())
    assert SECRET not in json.dumps(arguments) + kept
    assert job.spec() == SPEC


def test_the_batch_script_runs_the_job_of_the_directory(job: JobDirectory) -> None:
    arguments = ("-c", "print('hello from the node')")
    job.prepare(JobSpec(arguments, str(ROOT)))
    script = str(ROOT / "infra/slurm/train.sbatch")
    done = subprocess.run(
        ["bash", script, sys.executable, str(job.path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hello from the node\n"
    assert job.exit_code() == 0


@pytest.mark.parametrize(
    ("lines", "phase"),
    [
        ("7|RUNNING|None\n", Phase.RUNNING),
        ("7|PENDING|Resources\n", Phase.PENDING),
        ("8|PENDING|Dependency\n7|RUNNING|None\n", Phase.PENDING),
        ("8|FAILED|NonZeroExitCode\n7|RUNNING|None\n", Phase.RUNNING),  # an old one beside it
        ("7|TIMEOUT|TimeLimit\n", Phase.LOST),
        ("7|NODE_FAIL|None\n", Phase.LOST),
        ("", Phase.LOST),
    ],
)
def test_a_state_of_slurm_is_a_phase(cluster: Cluster, job: JobDirectory, lines: str, phase: Phase) -> None:
    job.prepare(SPEC)
    cluster.says("squeue", lines)
    client = SlurmBackEndClient(SLURM, ROOT)
    assert client.status(job).phase is phase
    for call in cluster.calls("squeue"):
        assert f"--name={NAME}" in call
        for option, _, value in (argument.partition("=") for argument in call):
            assert bool(value) is SLURM_OPTIONS["squeue"][option]
    job.write_exit(31)
    assert (client.status(job).phase, client.status(job).exit_code) == (Phase.ENDED, 31)


def test_a_job_that_slurm_knows_or_that_has_succeeded_is_not_submitted_again(
    cluster: Cluster, job: JobDirectory
) -> None:
    client = SlurmBackEndClient(SLURM, ROOT)
    cluster.says("squeue", "7|RUNNING|None\n")
    assert "is Slurm job 7 already" in client.submit(job, SPEC, os.environ)
    cluster.says("squeue", "")
    job.prepare(SPEC)
    job.write_exit(0)
    assert client.submit(job, SPEC, os.environ) == "has succeeded already"
    assert cluster.calls("sbatch") == []
    client.cancel(job)
    assert cluster.calls("scancel") == [["--quiet", "--full", f"--name={NAME}"]]


def test_a_missing_program_is_named(
    job: JobDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="squeue is not installed"):
        SlurmBackEndClient(SLURM, ROOT).submit(job, SPEC, os.environ)


KUBERNETES = KubernetesBackEnd(
    kind="kubernetes", image="registry/persia:1", volume_claim="persia-home", secret="persia-s3", gpus=1
)


def test_the_job_is_one_that_kubernetes_accepts(job: JobDirectory) -> None:
    manifest: dict[str, Any] = KubernetesBackEndClient(KUBERNETES, ROOT).manifest(job)
    kubernetes_validate.validate(manifest, "1.30", strict=True)
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "persia_core.launch.supervise", str(job.path)]
    assert container["envFrom"] == [{"secretRef": {"name": "persia-s3"}}]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    volumes = {v["name"] for v in pod["volumes"]}
    assert set(mounts) == volumes
    assert job.path.is_relative_to(mounts["persia-home"])
    assert (pod["restartPolicy"], manifest["spec"]["backoffLimit"]) == ("Never", 0)
    assert manifest["metadata"]["annotations"]["persia/job"] == NAME


def test_the_check_can_fail(job: JobDirectory) -> None:
    manifest = KubernetesBackEndClient(KUBERNETES, ROOT).manifest(job)
    manifest["spec"]["backoffLimits"] = 0
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.30", strict=True)


def test_a_job_has_a_name_of_its_own_that_is_a_dns_label(job: JobDirectory) -> None:
    other = JobDirectory(job.work, NAME.replace("_", "-"))
    assert job_name(job) != job_name(other)
    assert len(job_name(job)) <= 63
    assert job_name(job).replace("-", "").isalnum()


def test_a_template_without_the_container_is_refused(job: JobDirectory, tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "infra/kubernetes/train_job.yaml").read_text())
    document["spec"]["template"]["spec"]["containers"][0]["name"] = "other"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(document))
    section = KUBERNETES.model_copy(update={"template": "other.yaml"})
    with pytest.raises(ConfigError, match="no container is called train"):
        KubernetesBackEndClient(section, tmp_path).manifest(job)
    with pytest.raises(ConfigError, match=shlex.quote(str(tmp_path / "gone.yaml"))):
        section = KUBERNETES.model_copy(update={"template": "gone.yaml"})
        KubernetesBackEndClient(section, tmp_path).manifest(job)
