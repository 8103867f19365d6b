"""The process between mpiexec and a rank: real processes, real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from persia_core.launch.rank_process import (
    RankProcess,
    last_lines,
    log_of,
    prepare,
    rank_processes,
    with_parent,
)

RANK, FIRST = 5, 3  # of its role it is number 2
ROLE = "embedding server 2"


def start(run_dir: Path, program: str, **environment: str) -> "subprocess.Popen[bytes]":
    prepare(run_dir)
    ours = [sys.executable, "-I", "-S", "-c", program]
    command = with_parent(run_dir, run_dir / "heartbeats", "embedding server", FIRST, ours)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMPI_COMM_WORLD_RANK": str(RANK), **environment},
    )


def record(run_dir: Path) -> RankProcess:
    (found,) = rank_processes(run_dir)
    return found


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_exit_code_is_passed_on_and_written_down(tmp_path: Path) -> None:
    program = (
        "import sys; print('out'); print('error', file=sys.stderr); print('no end', end=''); sys.exit(7)"
    )
    before = time.monotonic()
    process = start(tmp_path, program, PYTHONUNBUFFERED="1")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    assert sorted(output.split()) == [b"end", b"error", b"no", b"out"]
    assert log_of(tmp_path, ROLE).read_bytes() == output
    ended = record(tmp_path)
    assert (ended.rank, ended.role, ended.status, ended.asked) == (RANK, ROLE, 7, False)
    assert ended.ended_at is not None and before < ended.ended_at < time.monotonic()
    assert ended.how_it_ended() == "ended with exit code 7"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_signal_is_written_down_and_mpiexec_sees_the_same(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, f"import os; os.kill(os.getpid(), {int(number)})")
    process.communicate(timeout=60)
    assert process.returncode == -number
    ended = record(tmp_path)
    assert (ended.status, ended.asked) == (-number, False), "nobody had asked it to end"
    assert number.name in ended.how_it_ended()


def test_a_rank_that_is_told_to_end_is_known_as_such(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = start(tmp_path, f"import time; open({str(ready)!r}, 'w'); time.sleep(600)")
    wait_for(ready)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert (record(tmp_path).status, record(tmp_path).asked) == (-signal.SIGTERM, True)


def test_a_rank_that_does_not_heed_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    heedless = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w')"
    process = start(tmp_path, f"{heedless}; time.sleep(600)")
    wait_for(ready)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (record(tmp_path).status, record(tmp_path).asked) == (-signal.SIGKILL, True)


def test_a_rank_ends_with_its_parent(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = start(tmp_path, f"import time; open({str(ready)!r}, 'w'); time.sleep(600)")
    wait_for(ready)
    pid = record(tmp_path).pid
    process.kill()
    process.communicate(timeout=60)  # end of file: the rank is gone, too
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_the_rank_has_started_does_not_hold_its_end_up(tmp_path: Path) -> None:
    grandchild = (
        "import subprocess, sys; print('said'); sys.stdout.flush(); p = subprocess.Popen(['sleep', '600'])"
    )
    pid_file = tmp_path / "pid"
    process = start(tmp_path, f"{grandchild}; open({str(pid_file)!r}, 'w').write(str(p.pid))")
    try:
        assert process.wait(timeout=60) == 0
        assert log_of(tmp_path, ROLE).read_text() == "said\n"
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        process.communicate(timeout=60)


def test_the_rank_is_told_where_to_beat_and_the_rest_of_the_environment(tmp_path: Path) -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    process = start(tmp_path, program, OF_THE_JOB="x")
    output, _ = process.communicate(timeout=60)
    told: dict[str, Any] = json.loads(output)
    assert told["PERSIA_HEARTBEAT"] == str(tmp_path / "heartbeats" / str(RANK))
    assert told["OF_THE_JOB"] == "x"


def test_the_last_fifty_lines_are_shown_and_an_earlier_job_forgotten(tmp_path: Path) -> None:
    start(tmp_path, "print(*range(1000), sep='\\n')").communicate(timeout=60)
    assert last_lines(tmp_path, ROLE) == [str(number) for number in range(950, 1000)]
    assert last_lines(tmp_path, "trainer 0") == []
    prepare(tmp_path)
    assert last_lines(tmp_path, ROLE) == [] and rank_processes(tmp_path) == []


def test_lines_of_ranks_do_not_mix(tmp_path: Path) -> None:
    """What comes in pieces is passed on in whole lines."""
    program = "import os; [os.write(1, b'x' * 10 + (b'\\n' if i % 3 == 2 else b'')) for i in range(300)]"
    process = start(tmp_path, program)
    assert process.stdout is not None
    pieces = []
    while piece := os.read(process.stdout.fileno(), 1 << 20):
        pieces.append(piece)
    process.communicate(timeout=60)
    assert b"".join(pieces) == (b"x" * 30 + b"\n") * 100
    assert all(piece.endswith(b"\n") for piece in pieces)
