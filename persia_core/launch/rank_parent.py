"""The parent of one rank: keeps its log, and writes down how it ended.

    python -I -S rank_parent.py PROCESSES LOGS HEARTBEATS ROLE FIRST_RANK PROGRAM [ARGUMENT...]

mpiexec starts one for each rank, and it starts PROGRAM. mpiexec alone does not do: where several ranks end
within milliseconds it may name one that ended because of another, and with it goes what it knew. The record
in PROCESSES is a `persia_core.launch.rank_process.RankProcess`.

It imports little of the standard library and nothing else, so that it starts in some hundredths of a second.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

END_WITHIN_S = 4.0  # after SIGTERM, before SIGKILL
HEARTBEAT_VARIABLE = "PERSIA_HEARTBEAT"
CHUNK_BYTES = 65_536
PR_SET_PDEATHSIG = 1  # prctl(2), Linux


class RankParent:
    """One rank, from its start to its end. Signals of mpiexec arrive here and are passed on."""

    def __init__(self, processes: Path, log: Path, rank: int, role: str) -> None:
        self._record_path = processes / f"{rank}.json"
        self._record = {"rank": rank, "role": role, "host": socket.gethostname(), "asked": False}
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._unwritten = 0  # bytes of the log
        self._passes_on = True
        self._line = b""
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], heartbeat: str) -> int:
        """Start `command` and return how it ended: its exit code, or minus the signal."""
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGALRM, self._kill)
        end_with(os.getppid())
        read_end, write_end = os.pipe()
        ourselves = os.getpid()

        def prepare() -> None:
            end_with(ourselves)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until there is somebody to pass it on to
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=subprocess.STDOUT,
            env={**os.environ, HEARTBEAT_VARIABLE: heartbeat},
            preexec_fn=prepare,  # noqa: PLW1509 - system calls only, and no thread runs here
        )
        os.close(write_end)
        self._note(pid=self._child.pid, heartbeat=heartbeat)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        self._relay(read_end, self._child.pid)
        status = self._child.wait()
        self._note(status=status, ended_at=time.monotonic())
        # What it has started may hold the other end open: take what is there and no more.
        os.set_blocking(read_end, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(read_end, CHUNK_BYTES):
                self._take(data)
        self._pass_on(self._line)
        if self._unwritten:
            self._pass_on(b"%d bytes could not be written to the log of this rank\n" % self._unwritten)
        return status

    def _relay(self, source: int, pid: int) -> None:
        """Take the child's output until the child has ended."""
        ended = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(source, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if ended in ready:
                os.close(ended)
                return
            data = os.read(source, CHUNK_BYTES)
            if not data:
                poll.unregister(source)
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            written = os.write(self._log, data)
        except OSError:  # a full disk must not stop the rank
            written = 0
        self._unwritten += len(data) - written
        whole, newline, rest = (self._line + data).rpartition(b"\n")
        if len(rest) > CHUNK_BYTES:
            whole, newline, rest = whole + newline + rest, b"\n", b""
        self._line = rest
        self._pass_on(whole + newline)  # whole lines: those of other ranks come between

    def _pass_on(self, data: bytes) -> None:
        while data and self._passes_on:
            try:
                data = data[os.write(sys.stdout.fileno(), data) :]
            except OSError:  # mpiexec is gone; the log goes on
                self._passes_on = False

    def _note(self, **facts: object) -> None:
        self._record.update(facts)
        temporary = self._record_path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(self._record), encoding="utf-8")
            temporary.rename(self._record_path)
        except OSError as error:
            self._pass_on(f"{self._record['role']}: {self._record_path}: {error}\n".encode())

    def _terminate(self, *_: object) -> None:
        child = self._child
        if child is None or os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return  # it has ended by itself
        self._record["asked"] = True
        os.kill(child.pid, signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, END_WITHIN_S)

    def _kill(self, *_: object) -> None:
        if self._child is not None and self._child.returncode is None:
            os.kill(self._child.pid, signal.SIGKILL)


def end_with(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent ends, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def end_like(status: int) -> None:
    """End this process as the rank has ended, so that mpiexec sees the same."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the rank has left its own
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else 128 - status)


def main(arguments: list[str]) -> None:
    """Run one rank and end as it does."""
    processes, logs, heartbeats, role, first_rank, *command = arguments
    rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
    number = rank - int(first_rank)
    log = Path(logs, f"{role.replace(' ', '-')}-{number}.log")
    parent = RankParent(Path(processes), log, rank, f"{role} {number}")
    end_like(parent.run(command, str(Path(heartbeats, str(rank)))))


if __name__ == "__main__":
    main(sys.argv[1:])
