"""Which rank failed first, told from what the ranks and their parents left."""

import json
from pathlib import Path
from typing import Any

import pytest

from persia_core.exit_codes import ExitCode
from persia_core.launch.failure import failure_of
from persia_core.launch.job import Job, RankRecord
from persia_core.launch.rank_process import prepare
from tests.support.small_config import small_config

KILL, TERM = -9, -15


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Ranks 0 and 1 are servers, 2 is an embedding worker, 3 and 4 are trainers."""
    prepare(tmp_path)
    cluster = {"servers": 2, "embedding_workers": 1, "trainers": 2}
    return Job(
        id="job", config=small_config(cluster=cluster).model_dump(), ds="2026-01-01", run_dir=tmp_path,
        partition_dir=tmp_path, parent_dir=None, parent=None, hashed_digest="",
    )  # fmt: skip


NAMES = ["embedding server 0", "embedding server 1", "embedding worker 0", "trainer 0", "trainer 1"]


def ended(job: Job, rank: int, status: int | None, at: float = 0.0, asked: bool = False) -> None:
    record: dict[str, Any] = {"rank": rank, "role": NAMES[rank], "host": "h", "pid": 2**22 + rank}
    record |= {
        "heartbeat": "/h",
        "asked": asked,
        "status": status,
        "ended_at": None if status is None else at,
    }
    (job.run_dir / "processes" / f"{rank}.json").write_text(json.dumps(record))


def said(job: Job, rank: int, code: ExitCode, at: float, what: str = "lost a peer") -> None:
    record = RankRecord(rank=rank, role=NAMES[rank], host="h", pid=1)
    record.model_copy(update={"exit_code": int(code), "what": what, "remedy": "r", "failed_at": at}).write(
        job.run_dir
    )


def first(job: Job, silence: dict[int, float] | None = None) -> tuple[str | None, int, str]:
    found = failure_of(job, 1, lambda rank, at: (silence or {}).get(rank, 0.0))
    return found.role, found.error.exit_code, found.error.what


def test_the_rank_that_died_comes_before_those_that_noticed(job: Job) -> None:
    said(job, 3, ExitCode.RANK_FAILED, 10.0)
    said(job, 4, ExitCode.RANK_FAILED, 10.1)
    for rank, status in ((0, 143), (2, TERM), (3, 30), (4, TERM)):
        ended(job, rank, status, 10.3, asked=rank != 3)
    ended(job, 1, KILL, 10.02)  # its parent got a core later than trainer 0 noticed
    assert first(job) == (
        "embedding server 1",
        ExitCode.RANK_FAILED,
        "embedding server 1 (rank 1) on h was ended by signal 9 (SIGKILL)",
    )


def test_of_two_that_died_the_earlier_one_is_named(job: Job) -> None:
    ended(job, 0, 1, 20.0)
    ended(job, 3, KILL, 19.9)
    assert first(job)[0] == "trainer 0"
    ended(job, 0, 1, 19.8)
    assert first(job)[0] == "embedding server 0"


def test_of_two_that_said_why_the_earlier_one_is_named(job: Job) -> None:
    said(job, 4, ExitCode.RANK_FAILED, 5.0, "ValueError: mine")
    said(job, 3, ExitCode.RANK_FAILED, 5.2, "RuntimeError: Connection closed by peer")
    assert first(job)[0] == "trainer 1"


def test_a_rank_killed_long_after_another_failed_is_not_the_first(job: Job) -> None:
    said(job, 4, ExitCode.RANK_FAILED, 5.0, "ValueError: mine")
    ended(job, 0, KILL, 11.0)
    assert first(job)[0] == "trainer 1"


def test_a_rank_that_was_told_to_end_is_never_the_first(job: Job) -> None:
    for rank in (0, 1, 2):
        ended(job, rank, TERM, 4.0, asked=True)
    said(job, 3, ExitCode.DISK_FULL, 5.0, "no space left")
    assert first(job) == (
        "trainer 0",
        ExitCode.DISK_FULL,
        "trainer 0 (rank 3) on h: no space left",
    )


def test_a_full_disk_is_not_taken_for_what_followed_from_it(job: Job) -> None:
    said(job, 3, ExitCode.DISK_FULL, 5.0, "no space left")
    said(job, 4, ExitCode.RANK_FAILED, 4.999)
    ended(job, 3, 23, 5.1)
    assert first(job)[1] == ExitCode.DISK_FULL


def test_a_rank_that_was_silent_when_another_complained_has_stopped(job: Job) -> None:
    said(job, 3, ExitCode.RANK_HUNG, 100.0, "server rank 1: LOOKUP: no answer within 60 s")
    for rank in range(5):
        ended(job, rank, KILL, 104.0, asked=True)
    role, code, what = first(job, {1: 59.0, 0: 0.4})
    assert (role, code) == ("embedding server 1", ExitCode.RANK_HUNG)
    assert "59 s" in what and "trainer 0 said: " in what
    assert first(job, {1: 0.4, 0: 0.4})[0] == "trainer 0", "the server was only slow"


def test_without_any_record_the_words_of_mpiexec_count(job: Job) -> None:
    words = 'prterun has exited due to process rank 4 with PID 0 on node vm calling\n"abort".'
    (job.run_dir / "job.log").write_text(words)
    assert first(job)[2] == "trainer 1 (rank 4) aborted the job"
    (job.run_dir / "job.log").unlink()
    assert first(job)[2] == "mpiexec of job job ended with exit code 1"


def test_a_rank_whose_parent_was_killed_comes_before_those_that_noticed(job: Job) -> None:
    said(job, 3, ExitCode.RANK_FAILED, 10.0)
    ended(job, 4, None)
    words = "prterun noticed that process rank 4 with PID 2 on node vm exited on\nsignal 9 (Killed)."
    (job.run_dir / "job.log").write_text(words)
    assert first(job)[2] == "trainer 1 (rank 4) was ended by signal 9"


def test_a_killed_mpiexec_is_named_before_its_ranks(job: Job) -> None:
    ended(job, 3, 1, 5.0)
    found = failure_of(job, -9, lambda rank, at: 0.0)
    assert found.error.what == "mpiexec of job job was ended by signal 9"
    assert found.role is None
