"""Runs the job of a job directory to its end, detached from whoever asked for it.

    python -m persia_core.launch.supervise DIRECTORY [LOCK_DESCRIPTOR]

The task that asked may die and be replaced by another one: the job goes on, and its directory says how it is.
It ends when its command does, when it is asked to (the file `cancel`, SIGTERM), and when nobody has watched
it for ABANDONED_GRACE_S seconds. The command runs under the guard, so that no process of it is left in any
case, also when the supervisor is killed. Under Slurm and in Kubernetes this is the program that the scheduler
starts.
"""

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from persia_core.exit_codes import ExitCode
from persia_core.launch.job_directory import JobDirectory

# From the death of a task's process to its next try: Airflow notices after a heartbeat, schedules, and
# starts.
ABANDONED_GRACE_S = 120.0
LOOK_EVERY_S = 0.5


def main(arguments: list[str]) -> int:
    """Run the job and return its exit code, which `exit.json` then holds too."""
    path = Path(arguments[0])
    directory = JobDirectory(path.parent.parent, path.name)
    locks = [int(arguments[1])] if len(arguments) > 1 else []
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    done = directory.exit_code()
    if done == ExitCode.OK:  # a second submission of the same job that waited for the first one
        return done
    spec = directory.spec()
    if spec is None:
        sys.stderr.write(f"supervise: {path} holds no job\n")
        return ExitCode.USAGE
    guard = subprocess.Popen(
        [sys.executable, "-m", "persia_core.launch.guard", sys.executable, *spec.arguments],
        cwd=spec.cwd,
        stdin=subprocess.PIPE,
        start_new_session=True,
        pass_fds=locks,  # held until the guard has ended the last process
    )
    while guard.poll() is None:
        if stopped.is_set() or _to_end(directory):
            if guard.stdin is not None:
                guard.stdin.close()
            guard.wait()
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(timeout=LOOK_EVERY_S)
    code = guard.returncode if guard.returncode >= 0 else 128 - guard.returncode
    directory.write_exit(code)
    return code


def _to_end(directory: JobDirectory) -> bool:
    if directory.asked_to_end():
        return True
    abandoned = directory.abandoned_for_s()
    if abandoned is not None and abandoned > ABANDONED_GRACE_S:
        sys.stderr.write(f"supervise: nobody has watched this job for {abandoned:.0f} s; ending it\n")
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
