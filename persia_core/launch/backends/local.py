"""Jobs on this host: each under a supervisor of its own, which outlives the task that asked for it."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping

from persia_core.errors import RankHung
from persia_core.exit_codes import ExitCode
from persia_core.launch.backends.interface import JobStatus, Phase
from persia_core.launch.job_directory import JobDirectory, JobSpec

END_WITHIN_S = 30.0  # the guard gives 10 s to end, then kills
_POLL_S = 0.1


class LocalBackEndClient:
    """The lock of the job directory says whether the job runs: it goes with the job's last process."""

    remote = False

    def submit(self, job: JobDirectory, spec: JobSpec, environment: Mapping[str, str]) -> str:
        """See BackEndClient. The supervisor inherits `environment`."""
        lock = self._lock(job)
        if lock is None:
            job.adopt()
            return "is running already, going on with it"
        try:
            if job.exit_code() == ExitCode.OK:
                return "has succeeded already"
            again = job.exit_code() is not None
            job.prepare(spec)
            with job.output.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "persia_core.launch.supervise", str(job.path), str(lock)],
                    env=dict(environment),
                    cwd=spec.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[lock],
                )
            process.returncode = 0  # it is meant to outlive us: no ResourceWarning, no wait at exit
            return f"started{' again' if again else ''}, supervised by process {process.pid}"
        finally:
            os.close(lock)

    def status(self, job: JobDirectory) -> JobStatus:
        if job.locked():
            return JobStatus(Phase.RUNNING)
        code = job.exit_code()
        if code is not None:
            return JobStatus(Phase.ENDED, code)
        if job.spec() is None:
            return JobStatus(Phase.ABSENT)
        return JobStatus(Phase.LOST, note="its supervisor is gone and left no exit code")

    def abandon(self, job: JobDirectory) -> None:
        job.mark_abandoned()

    def cancel(self, job: JobDirectory) -> None:
        """Returns when the last process is gone; RankHung if that takes longer than END_WITHIN_S seconds."""
        if not job.locked():
            return
        job.ask_to_end()
        deadline = time.monotonic() + END_WITHIN_S
        while job.locked():
            if time.monotonic() > deadline:
                raise RankHung(
                    f"job {job.name} does not end within {END_WITHIN_S:.0f} s",
                    "look for its processes on this host",
                )
            time.sleep(_POLL_S)

    def _lock(self, job: JobDirectory) -> int | None:
        """The lock, or None if the job runs. One that is about to end is waited for."""
        deadline = time.monotonic() + END_WITHIN_S
        tries = 0
        while (lock := job.lock()) is None:
            tries += 1  # the first may have met somebody who only looked
            if tries > 2 and not job.asked_to_end():
                return None
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_S)
        return lock
