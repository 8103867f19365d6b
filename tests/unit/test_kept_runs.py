"""What stays of a published run on its host, for how long, and how much of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from persia_core.config.retention import Retention
from persia_core.launch.directory_lock import locked
from persia_core.launch.job import JOB_FILE
from persia_core.launch.kept_runs import KEPT, KeptRun, keep_files
from persia_core.launch.leftovers import KEPT_TOO_LONG, find_leftovers, remove

LOG = b"".join(b"line %06d of a rank\n" % number for number in range(1000))
STAYS = {
    "logs/trainer-0.log": LOG,
    "logs/embedding-server-0.log": b"short\n",
    "processes/0.json": b"{}",
    "tensorboard/events.out.tfevents.1": b"curve",
    "metrics.jsonl": b'{"step": 1}\n',
}
GOES = {
    "checkpoint/manifest.json": b"{}",
    "checkpoint/embedding-0.safetensors": b"rows",
    "cuts/12/state.json": b"{}",
    "parity.parquet": b"rows",
    "job.log": LOG,
    JOB_FILE: b"{}",
    "phase": b"leave",
}


def published(work: Path, run: str, model: str = "m") -> Path:
    """A run directory as a job leaves it."""
    run_dir = work / model / "ds=2026-01-01" / run
    for name, data in (STAYS | GOES).items():
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_bytes(data)
    return run_dir


def contents(run_dir: Path) -> dict[str, bytes]:
    """But for what only says that it is kept, and the lock."""
    files = {str(path.relative_to(run_dir)): path for path in run_dir.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in (KEPT, ".lock")}


def too_long(work: Path) -> list[Path]:
    return [each.path for each in find_leftovers(work) if each.kind == KEPT_TOO_LONG]


def test_logs_and_curves_stay_and_all_else_goes(tmp_path: Path) -> None:
    run_dir = published(tmp_path, "a")
    removed, kept = keep_files(run_dir, "v", Retention())
    assert contents(run_dir) == STAYS
    assert kept == [run_dir]
    assert {path.name for path in removed} == {Path(name).parts[0] for name in GOES}
    assert too_long(tmp_path) == []
    assert keep_files(run_dir, "v", Retention()) == ([], [run_dir])  # the task is cleared, and runs again
    assert contents(run_dir) == STAYS
    assert keep_files(tmp_path / "m" / "ds=2026-01-01" / "none", "v", Retention()) == ([], [])


def test_clean_removes_them_when_their_time_is_over_and_not_before(tmp_path: Path) -> None:
    run_dir, young = published(tmp_path, "a"), published(tmp_path, "b")
    for each in (run_dir, young):
        keep_files(each, "v", Retention(run_files_days=3))
    kept = KeptRun.model_validate_json((run_dir / KEPT).read_bytes())
    assert kept.until - kept.since == timedelta(days=3)
    assert abs(kept.since - datetime.now(UTC)) < timedelta(hours=1)
    over = kept.model_copy(update={"until": datetime.now(UTC) - timedelta(seconds=1)})
    (run_dir / KEPT).write_text(over.model_dump_json())
    [leftover] = [each for each in find_leftovers(tmp_path) if each.kind == KEPT_TOO_LONG]
    assert leftover.path == run_dir
    with locked(run_dir):
        assert too_long(tmp_path) == [] and not remove(leftover), "somebody trains it again"
    (run_dir / KEPT).write_text(kept.model_dump_json())
    assert not remove(leftover), "it was published again meanwhile"
    (run_dir / KEPT).write_text(over.model_dump_json())
    assert remove(leftover)
    assert not run_dir.exists() and contents(young) == STAYS


def test_of_a_long_log_the_end_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persia_core.launch.kept_runs.LOG_BYTES", 70)  # three lines of 22 bytes, and some
    run_dir = published(tmp_path, "a")
    keep_files(run_dir, "v", Retention())
    end = b"(the first %d bytes are left out)\n" % (len(LOG) - 66) + LOG[-66:]
    assert contents(run_dir) == STAYS | {"logs/trainer-0.log": end}


def test_over_the_limit_of_the_model_the_oldest_go(tmp_path: Path) -> None:
    runs = [published(tmp_path, name) for name in ("c", "a", "b")]
    other = published(tmp_path, "z", model="other")
    for run_dir in (other, *runs[:-1]):
        (run_dir / "metrics.jsonl").write_bytes(bytes(700_000))
        assert keep_files(run_dir, "v", Retention(run_files_mib=1))[1] == [run_dir]
    assert not runs[0].exists() and runs[1].exists() and other.exists()
    (runs[2] / "metrics.jsonl").write_bytes(bytes(2_000_000))  # more than all may have
    removed, kept = keep_files(runs[2], "v", Retention(run_files_mib=1))
    assert kept == [] and {runs[1], runs[2]} <= set(removed)
    assert not runs[1].exists() and not runs[2].exists() and other.exists()


def test_a_run_that_is_at_work_is_left_as_it_is_and_0_days_keep_nothing(tmp_path: Path) -> None:
    run_dir = published(tmp_path, "a")
    with locked(run_dir):
        for days in (0, 1):
            assert keep_files(run_dir, "v", Retention(run_files_days=days)) == ([], [run_dir])
    assert contents(run_dir) == STAYS | GOES
    assert keep_files(run_dir, "v", Retention(run_files_days=0)) == ([run_dir], [])
    assert not run_dir.exists()
