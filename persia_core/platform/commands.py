"""`up`, `down` and `status` of the local platform."""

import os
import secrets
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from persia_core.errors import EnvironmentProblem
from persia_core.platform import services
from persia_core.platform.ports import free_port
from persia_core.platform.processes import alive, end, start, survivors
from persia_core.platform.state import State, exclusive, forget_state, load_state, platform_dir, save_state

Say = Callable[[str], None]

START_TIMEOUT_S = 180.0
PROGRESS_EVERY_S = 5.0
LOG_TAIL_LINES = 20


@dataclass(frozen=True)
class Platform:
    """A running platform: where it is and what a client needs. `processes` maps names to process ids."""

    airflow_url: str
    s3_url: str
    env: dict[str, str]
    home: Path
    processes: dict[str, int]
    fresh: bool  # started by this very call of `up`


def up(say: Say = print) -> Platform:
    """Start the S3 endpoint and Airflow, wait until both are healthy, and say where they are.

    Does nothing but say so if they are running. Takes a dead or half-started platform down first. Raises
    EnvironmentProblem, with nothing left running, if a part does not come up.
    """
    with exclusive():
        old = load_state()
        if old is not None and _running(old):
            say("The platform is already up.")
            _introduce(old, say)
            return _platform(old, fresh=False)
        if old is not None:
            say("Clearing away what is left of a platform that is not healthy ...")
            _end(old, say)
        state = _new_state()
        save_state(state)
        try:
            _start_all(state, say)
        except BaseException:
            _end(state, say)
            raise
        state.ready = True
        save_state(state)
        _write_env_file(state)
    _introduce(state, say)
    return _platform(state, fresh=True)


def down(say: Say = print) -> None:
    """End what `up` started, all of it and nothing else. Harmless when nothing runs.

    Raises EnvironmentProblem if a process survives even SIGKILL.
    """
    with exclusive():
        state = load_state()
        if state is None:
            say("The platform is not up: nothing to stop.")
            return
        _end(state, say)


def status(say: Say = print) -> Platform | None:
    """Say what runs; returns None if the platform is not up and healthy."""
    state = load_state()
    if state is None:
        say("The platform is not up. Start it with: persia platform up")
        return None
    for process in state.processes:
        condition = "running" if alive(process) else "GONE"
        say(f"  {process.name:<14} {condition:<8} pid {process.pid:<8} log {process.log}")
    if not _running(state):
        say("The platform is not healthy: `persia platform up` starts it anew, `down` clears it away.")
        return None
    _introduce(state, say)
    return _platform(state, fresh=False)


def _new_state() -> State:
    project = Path(os.environ.get("PERSIA_PROJECT") or Path.cwd()).absolute()
    if not (project / "dags").is_dir():
        raise EnvironmentProblem(
            f"{project} holds no dags/ directory",
            "run this in the project's directory, or name it in PERSIA_PROJECT",
        )
    return State(
        id=uuid.uuid4().hex,
        project=str(project),
        access_key="persia-local",
        secret_key=secrets.token_hex(20),
        s3_port=free_port(9000),
        airflow_port=free_port(8080),
    )


def _start_all(state: State, say: Say) -> None:
    logs = platform_dir() / "logs"
    project = Path(state.project)
    say(f"Starting the S3 endpoint on port {state.s3_port} (kept in memory: gone when it stops) ...")
    _start(state, "s3", services.s3_command(state), services.base_environment(state), logs)
    say("Preparing Airflow's metadata database ...")
    environment = services.airflow_environment(state)
    (platform_dir() / "airflow").mkdir(parents=True, exist_ok=True)
    log = logs / "airflow-db.log"
    with log.open("ab") as output:
        migrated = subprocess.run(
            [*services.airflow_command("db", state), "migrate"],
            env=environment,
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if migrated.returncode != 0:
        raise _not_started("airflow db migrate", log)
    say(f"Starting Airflow on port {state.airflow_port} ...")
    for part in services.AIRFLOW_PARTS:
        _start(state, part, services.airflow_command(part, state), environment, logs)
    _wait_healthy(state, say)
    services.create_pools(state)


def _start(state: State, name: str, command: list[str], env: dict[str, str], logs: Path) -> None:
    state.processes.append(start(name, command, env, Path(state.project), logs / f"{name}.log"))
    save_state(state)


def _wait_healthy(state: State, say: Say) -> None:
    begun = said = time.monotonic()
    s3_ready = False
    while True:
        for process in state.processes:
            if not alive(process):
                raise _not_started(process.name, Path(process.log))
        s3_ready = s3_ready or services.s3_healthy(state)
        missing = services.airflow_unhealthy(state) + ([] if s3_ready else ["s3"])
        if not missing:
            return
        now = time.monotonic()
        if now - begun > START_TIMEOUT_S:
            raise EnvironmentProblem(
                f"the platform is not healthy after {START_TIMEOUT_S:.0f} s; missing: {', '.join(missing)}",
                f"look into the logs in {platform_dir() / 'logs'} and run this again",
            )
        if now - said > PROGRESS_EVERY_S:
            said = now
            say(f"  {now - begun:3.0f} s: waiting for {', '.join(missing)}")
        time.sleep(0.5)


def _not_started(name: str, log: Path) -> EnvironmentProblem:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    tail = "\n".join(f"    {line}" for line in lines)
    return EnvironmentProblem(
        f"{name} ended while the platform was starting; the end of its log:\n{tail}",
        f"mend what the log names ({log}) and run this again",
    )


def _running(state: State) -> bool:
    return state.ready and all(alive(process) for process in state.processes)


def _end(state: State, say: Say) -> None:
    count = len(survivors(state.id, state.processes))
    say(f"Stopping {count} processes ...")
    left = end(state.id, state.processes)
    if left:
        listing = "; ".join(f"{pid} ({line[:60]})" for pid, line in left.items())
        raise EnvironmentProblem(
            f"{len(left)} processes of the platform do not end: {listing}",
            "they hang in the kernel, on a file system perhaps; run this again later",
        )
    forget_state()
    say(f"The platform is down: {count} processes ended, none left.")


def _write_env_file(state: State) -> None:
    lines = [
        f"export {name}={shlex.quote(value)}" for name, value in services.user_environment(state).items()
    ]
    path = platform_dir() / "env.sh"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")


def _introduce(state: State, say: Say) -> None:
    say(f"  Airflow      {state.airflow_url}   (no log-in; reachable from this machine only)")
    say(f"  S3 endpoint  {state.s3_url}   bucket {services.BUCKET}, in memory only, for trying out")
    say(f"  in a shell   . {shlex.quote(str(platform_dir() / 'env.sh'))}   (lets `persia` find the endpoint)")
    say(f"  logs         {platform_dir() / 'logs'}")


def _platform(state: State, fresh: bool) -> Platform:
    return Platform(
        airflow_url=state.airflow_url,
        s3_url=state.s3_url,
        env=services.user_environment(state),
        home=platform_dir(),
        processes={process.name: process.pid for process in state.processes},
        fresh=fresh,
    )
