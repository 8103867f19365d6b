"""Which rank of a job failed first, and what is to be said of it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from persia_core.errors import PersiaError, RankFailed, RankHung
from persia_core.exit_codes import ExitCode
from persia_core.launch.job import Job, RankRecord, rank_records
from persia_core.launch.rank_process import RankProcess, rank_processes
from persia_core.launch.roles import Roles
from persia_core.phases import phase_of

LOG_FILE = "job.log"  # what all ranks and mpiexec said

# A rank that says that another one does not answer may be told of before the one that died: its own
# parent was not given a core in time. So much later the other one still counts as the first.
CONSEQUENCE_S = 2.0
# A rank has stopped if it was silent for so long when another one complained. It beats twice a second.
SILENT_S = 3.0

# Words of mpiexec, which breaks lines anywhere. Ranks that it ends afterwards say in the log that they abort.
_SIGNALLED = re.compile(
    r"process\s+rank\s+(\d+)\s+with\s+PID\s+\d+\s+on\s+node\s+\S+\s+exited\s+on\s+signal\s+(\d+)"
)
_ABORTED = re.compile(r"process\s+rank\s+(\d+)\s+with\s+PID\s+\d+\s+on\s+node\s+\S+\s+calling\s+\"abort\"")
_EXITED = re.compile(r"\[\[\d+,\d+\],(\d+)\].*?Exit code:\s+(\d+)", re.DOTALL)


@dataclass(frozen=True)
class Failure:
    """The error of a job, and the rank whose log tells more; None if it is no single one's."""

    error: PersiaError
    role: str | None


def failure_of(job: Job, code: int | None, silence: Callable[[int, float], float]) -> Failure:
    """Why a job failed.

    `code` is what mpiexec ended with by itself, minus the signal if one ended it; None if it had to be ended.
    `silence(rank, at)` is for how many seconds a rank had given no sign of life at the time `at`.
    """
    if code is not None and code < 0:
        return Failure(RankFailed(f"mpiexec of job {job.id} was ended by signal {-code}", _remedy(job)), None)
    if found := _first(job, silence):
        return found
    output = _text(job.run_dir / LOG_FILE)
    for pattern, how in (
        (_SIGNALLED, "was ended by signal {}"),
        (_EXITED, "ended with exit code {}"),
        (_ABORTED, "aborted the job"),
    ):
        if words := pattern.search(output):
            rank, *number = words.groups()
            role = Roles.of(job.resolved().cluster).name(int(rank))
            return _of_mpiexec(job, role, int(rank), how.format(*number))
    return Failure(RankFailed(f"mpiexec of job {job.id} ended with exit code {code}", _remedy(job)), None)


def _first(job: Job, silence: Callable[[int, float], float]) -> Failure | None:
    records = {record.rank: record for record in rank_records(job.run_dir) if record.exit_code is not None}
    processes = {process.rank: process for process in rank_processes(job.run_dir)}
    failed = [
        *(_said(job, record, processes.get(record.rank)) for record in records.values()),
        *_died(job, processes, records),
    ]
    if not failed:
        return None
    _, at, failure = min(failed, key=lambda each: each[0])
    complained = any(record.role == failure.role for record in records.values())
    if complained and failure.error.exit_code in (ExitCode.RANK_FAILED, ExitCode.RANK_HUNG):
        words = _SIGNALLED.search(_text(job.run_dir / LOG_FILE))
        if words and (dead := processes.get(int(words[1]))) is not None and dead.status is None:
            # Its parent was killed, and so could not say how it ended.
            return _of_mpiexec(job, dead.role, dead.rank, f"was ended by signal {words[2]}")
        stopped = {
            rank: seconds
            for rank, process in processes.items()
            if process.role != failure.role
            and not _ended_by_itself(process)
            and (seconds := silence(rank, at)) > SILENT_S
        }
        if stopped:
            rank = max(stopped, key=stopped.__getitem__)
            return hung(job, rank, stopped[rank], f"; {failure.role} said: {failure.error.what}")
    return failure


def hung(job: Job, rank: int, seconds: float, more: str = "") -> Failure:
    """The failure of a job in which `rank` has given no sign of life for so many `seconds`."""
    found = [process for process in rank_processes(job.run_dir) if process.rank == rank]
    role = Roles.of(job.resolved().cluster).name(rank)
    name = found[0].name if found else f"{role} (rank {rank})"
    state = _state_of(found[0]) if found else "its process was never started"
    phase = f", in phase {found_phase}" if (found_phase := phase_of(job.run_dir)) else ""
    what = f"{name} hangs: no sign of life for {seconds:.0f} s{phase}, {state}{more}"
    return Failure(
        RankHung(
            what,
            "see what stopped it (dmesg, a debugger, the file system it waits for), then run again; raise "
            "cluster.heartbeat_timeout_s or cluster.start_timeout_s if it was only slow",
        ),
        role,
    )


def _state_of(process: RankProcess) -> str:
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"process {process.pid} is not there"
    states = {"T": "is stopped (SIGSTOP)", "t": "is held by a debugger", "D": "waits for a disk or network"}
    return f"process {process.pid} {states.get(fields[0], f'is in state {fields[0]}')}"


Timed = tuple[float, float, Failure]  # by when it counts, when it happened


def _said(job: Job, record: RankRecord, process: RankProcess | None) -> Timed:
    code = ExitCode(record.exit_code or ExitCode.RANK_FAILED)
    error = PersiaError(
        f"{record.role} (rank {record.rank}) on {record.host}: {record.what}", record.remedy or _remedy(job)
    )
    error.exit_code = code
    at = record.failed_at
    if at is None:
        at = process.ended_at if process is not None and process.ended_at is not None else 0.0
    may_follow = code in (ExitCode.RANK_FAILED, ExitCode.RANK_HUNG)
    return at + (CONSEQUENCE_S if may_follow else 0.0), at, Failure(error, record.role)


def _died(job: Job, processes: dict[int, RankProcess], records: dict[int, RankRecord]) -> Iterator[Timed]:
    for rank, process in processes.items():
        if rank in records or not _ended_by_itself(process) or process.status == 0:
            continue
        error = RankFailed(f"{process.name} {process.how_it_ended()}", _remedy(job))
        at = process.ended_at or 0.0
        yield at, at, Failure(error, process.role)


def _ended_by_itself(process: RankProcess) -> bool:
    return process.status is not None and not process.asked


def _of_mpiexec(job: Job, role: str, rank: int, how: str) -> Failure:
    return Failure(RankFailed(f"{role} (rank {rank}) {how}", _remedy(job)), role)


def _remedy(job: Job) -> str:
    return f"read {job.run_dir / LOG_FILE}; the task can be run again: nothing was published"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
