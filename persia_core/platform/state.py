"""What `up` started, on disk, so that `down` ends exactly that and nothing else."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from persia_core.config.home import persia_home
from persia_core.errors import EnvironmentProblem
from persia_core.platform.processes import Started


class State(BaseModel):
    """One start of the platform. `id` stands in the environment of every process it started."""

    model_config = ConfigDict(extra="forbid")

    id: str
    project: str
    access_key: str
    secret_key: str
    s3_port: int
    airflow_port: int
    ready: bool = False
    processes: list[Started] = []

    @property
    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"


def platform_dir() -> Path:
    """Logs, the metadata database and the state file of the local platform."""
    return persia_home() / "platform"


def load_state() -> State | None:
    """The state on disk, or None if there is none (or none that can be read, which is as good as none)."""
    try:
        return State.model_validate_json((platform_dir() / "state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def save_state(state: State) -> None:
    """Replace the state file; only its owner may read it (it holds the local credentials)."""
    path = platform_dir() / "state.json"
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(state.model_dump_json(indent=1))
    fresh.replace(path)


def forget_state() -> None:
    """Remove the state file and what was derived from it."""
    for name in ("state.json", "env.sh"):
        (platform_dir() / name).unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Only one `up` or `down` at a time; EnvironmentProblem if another one is under way."""
    platform_dir().mkdir(parents=True, exist_ok=True)
    with (platform_dir() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentProblem(
                f"another command is starting or stopping the platform in {platform_dir()}",
                "wait for it to end and run this again",
            ) from error
        yield
