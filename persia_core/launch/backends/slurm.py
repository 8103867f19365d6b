"""Jobs under Slurm, by its three commands: sbatch, squeue, scancel."""

import sys
from collections.abc import Mapping
from pathlib import Path

from persia_core.config.back_end import SlurmBackEnd
from persia_core.exit_codes import ExitCode
from persia_core.launch.backends.interface import JobStatus, Phase
from persia_core.launch.backends.programs import call, refused
from persia_core.launch.job_directory import JobDirectory, JobSpec

# squeue(1), JOB STATE CODES: those in which the job may still run, or run again.
_PENDING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
}
_RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}


class SlurmBackEndClient:
    """A job is known to Slurm by its name. Its directory lies on a file system that node and worker share."""

    remote = True

    def __init__(self, section: SlurmBackEnd, project: Path) -> None:
        self._section = section
        self._project = project

    def submit(self, job: JobDirectory, spec: JobSpec, environment: Mapping[str, str]) -> str:
        """See BackEndClient. Credentials travel in the environment of sbatch, never in its arguments."""
        if job.exit_code() == ExitCode.OK:
            return "has succeeded already"
        found = self._queued(job)
        # One that has written its exit code is about to leave the queue; the new one waits for that.
        if found is not None and found[1] in _PENDING | _RUNNING and job.exit_code() is None:
            return f"is Slurm job {found[0]} already ({found[1]}), going on with it"
        job.prepare(spec)
        done = call(self.command(job), environment=environment)
        if done.returncode != 0:
            raise refused(done)
        return f"submitted as Slurm job {done.stdout.strip().partition(';')[0]}"

    def command(self, job: JobDirectory) -> list[str]:
        """The sbatch command. `--dependency=singleton`: a second submission waits for the first."""
        wanted = self._section
        minutes = max(1, round(wanted.time_limit_h * 60))
        optional = {
            "--partition": wanted.partition,
            "--account": wanted.account,
            "--qos": wanted.qos,
            "--gres": wanted.gres,
        }
        return [
            "sbatch",
            "--parsable",
            f"--job-name={job.name}",
            "--dependency=singleton",
            "--no-requeue",
            "--export=ALL",
            "--nodes=1",
            "--ntasks=1",
            f"--cpus-per-task={wanted.cpus}",
            f"--mem={wanted.memory_gb}G",
            f"--time={minutes}",
            f"--output={job.output}",
            "--open-mode=append",
            *(f"{option}={value}" for option, value in optional.items() if value),
            str(self._project / wanted.template),
            sys.executable,
            str(job.path),
        ]

    def status(self, job: JobDirectory) -> JobStatus:
        code = job.exit_code()
        if code is not None:
            return JobStatus(Phase.ENDED, code)
        found = self._queued(job)
        if found is None:
            return JobStatus(
                Phase.ABSENT if job.spec() is None else Phase.LOST, note="squeue does not list it"
            )
        number, state, reason = found
        if state in _PENDING:
            return JobStatus(Phase.PENDING, note=f"Slurm job {number}: {state}, {reason}")
        if state in _RUNNING:
            return JobStatus(Phase.RUNNING, note=f"Slurm job {number}: {state}")
        return JobStatus(Phase.LOST, note=f"Slurm job {number}: {state}, {reason}")

    def abandon(self, job: JobDirectory) -> None:
        self.cancel(job)

    def cancel(self, job: JobDirectory) -> None:
        done = call(["scancel", "--quiet", "--full", f"--name={job.name}"])
        if done.returncode != 0:
            raise refused(done)

    def _queued(self, job: JobDirectory) -> tuple[str, str, str] | None:
        """(number, state, reason) of the newest job of that name, an active one if there is one."""
        done = call(
            ["squeue", "--noheader", "--states=all", f"--name={job.name}", "--format=%i|%T|%r", "--sort=-i"]
        )
        if done.returncode != 0:
            raise refused(done)
        lines = [
            tuple(line.strip().split("|", 2)) for line in done.stdout.splitlines() if line.count("|") >= 2
        ]
        active = [line for line in lines if line[1] in _PENDING | _RUNNING]
        found = (active or lines)[:1]
        return (found[0][0], found[0][1], found[0][2]) if found else None
