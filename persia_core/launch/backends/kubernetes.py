"""Jobs in Kubernetes: one Job with one pod each, by kubectl."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from persia_core.config.back_end import KubernetesBackEnd
from persia_core.errors import ConfigError
from persia_core.exit_codes import ExitCode
from persia_core.launch.backends.interface import JobStatus, Phase
from persia_core.launch.backends.programs import call, refused
from persia_core.launch.job_directory import JobDirectory, JobSpec

CONTAINER = "train"
VOLUME = "persia-home"
JOB_ANNOTATION = "persia/job"


class KubernetesBackEndClient:
    """A Job's name follows from ours, so that the API server itself refuses a second one."""

    remote = True

    def __init__(self, section: KubernetesBackEnd, project: Path) -> None:
        self._section = section
        self._project = project

    def submit(self, job: JobDirectory, spec: JobSpec, environment: Mapping[str, str]) -> str:
        """See BackEndClient. `environment` stays here: the pod gets its credentials from the named Secret."""
        name = job_name(job)
        status = self.status(job)
        if status.active:
            return f"is Job {name} already, going on with it"
        if status.exit_code == ExitCode.OK:
            return "has succeeded already"
        self._delete(job, wait=True)  # of an earlier try
        job.prepare(spec)
        done = call([*self._kubectl(), "create", "--filename=-"], text=json.dumps(self.manifest(job)))
        if done.returncode != 0:
            if "AlreadyExists" in done.stderr:
                return f"was created meanwhile by somebody else as Job {name}, going on with it"
            raise refused(done)
        return f"created as Job {name} in namespace {self._section.namespace}"

    def manifest(self, job: JobDirectory) -> dict[str, Any]:
        """The template with name, program, resources, volume and Secret filled in."""
        wanted = self._section
        document = self._template()
        metadata = document.setdefault("metadata", {})
        metadata["name"] = job_name(job)
        metadata["namespace"] = wanted.namespace
        metadata.setdefault("annotations", {})[JOB_ANNOTATION] = job.name
        document["spec"]["backoffLimit"] = 0  # Airflow decides about retries
        document["spec"]["activeDeadlineSeconds"] = round(wanted.time_limit_h * 3600)
        pod = document["spec"]["template"]["spec"]
        pod["restartPolicy"] = "Never"
        container = next((c for c in pod.get("containers", []) if c.get("name") == CONTAINER), None)
        if container is None:
            raise ConfigError(
                f"{self._project / wanted.template}: no container is called {CONTAINER}",
                "start from infra/kubernetes/train_job.yaml",
            )
        resources = {"cpu": str(wanted.cpus), "memory": f"{wanted.memory_gb}Gi"}
        if wanted.gpus:
            resources["nvidia.com/gpu"] = str(wanted.gpus)
        home = str(job.work.parent)
        container["image"] = wanted.image
        # The interpreter of the image, which is not the worker's.
        container["command"] = ["python", "-m", "persia_core.launch.supervise", str(job.path)]
        container["resources"] = {"requests": dict(resources), "limits": dict(resources)}
        container.setdefault("env", []).append({"name": "PERSIA_HOME", "value": home})
        if wanted.secret is not None:
            container.setdefault("envFrom", []).append({"secretRef": {"name": wanted.secret}})
        container.setdefault("volumeMounts", []).append({"name": VOLUME, "mountPath": home})
        claim = {"name": VOLUME, "persistentVolumeClaim": {"claimName": wanted.volume_claim}}
        pod.setdefault("volumes", []).append(claim)
        return document

    def status(self, job: JobDirectory) -> JobStatus:
        code = job.exit_code()
        done = call([*self._kubectl(), "get", "job", job_name(job), "--ignore-not-found", "--output=json"])
        if done.returncode != 0:
            raise refused(done)
        if not done.stdout.strip():
            if code is not None:
                return JobStatus(Phase.ENDED, code)
            return JobStatus(Phase.ABSENT if job.spec() is None else Phase.LOST, note="there is no such Job")
        return _status_of(json.loads(done.stdout), code)

    def abandon(self, job: JobDirectory) -> None:
        self.cancel(job)

    def cancel(self, job: JobDirectory) -> None:
        self._delete(job, wait=False)

    def _delete(self, job: JobDirectory, *, wait: bool) -> None:
        done = call(
            [
                *self._kubectl(),
                *("delete", "job", job_name(job), "--ignore-not-found", "--cascade=foreground"),
                f"--wait={str(wait).lower()}",
            ]
        )
        if done.returncode != 0:
            raise refused(done)

    def _kubectl(self) -> list[str]:
        return ["kubectl", f"--namespace={self._section.namespace}", "--request-timeout=30s"]

    def _template(self) -> dict[str, Any]:
        path = self._project / self._section.template
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            document["spec"]["template"]["spec"]
        except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{path}: is no template of a Job: {error!r}", "start from infra/kubernetes/train_job.yaml"
            ) from error
        return dict(document)


def job_name(job: JobDirectory) -> str:
    """A name that Kubernetes takes (RFC 1123 label), and another one for another job."""
    return f"persia-{hashlib.sha256(job.name.encode()).hexdigest()[:20]}"


def _status_of(document: dict[str, Any], code: int | None) -> JobStatus:
    """`code` is from the job's directory. A Job that is being deleted is still there with its pod."""
    status = document.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or [] if c.get("status") == "True"}
    if code is not None:
        return JobStatus(Phase.ENDED, code)
    if "Complete" in conditions:
        return JobStatus(Phase.LOST, note="the pod ended and the shared volume holds no exit code")
    if "Failed" in conditions:
        failed = conditions["Failed"]
        return JobStatus(Phase.LOST, note=f"{failed.get('reason', '')}: {failed.get('message', '')}")
    if status.get("ready") or 0:
        return JobStatus(Phase.RUNNING, note="its pod runs")
    return JobStatus(Phase.PENDING, note="its pod is not ready yet")
