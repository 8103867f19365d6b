"""A real PostgreSQL on this host, from unpacked packages; nothing is installed.

`make postgres-tests` unpacks Debian's packages into build/postgres. The server refuses to run as root: for
root it runs as `nobody`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persia_core.platform.ports import free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2] / "build" / "postgres" / "root"
PROGRAMS = ROOT / "usr/lib/postgresql/15/bin"
LIBRARIES = ROOT / "usr/lib/x86_64-linux-gnu"


def there_is_postgres() -> bool:
    return (PROGRAMS / "postgres").exists()


@contextmanager
def postgres() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database `airflow` in a new server, which ends afterwards."""
    here = Path(tempfile.mkdtemp(prefix="persia-postgres-"))
    here.chmod(0o755)
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        who = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(here, "nobody", "nogroup")
    environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(LIBRARIES), "LC_ALL": "C.UTF-8"}
    port = free_port(15432)

    def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [PROGRAMS / program, *arguments],
            cwd=here, env=environment, capture_output=True, text=True, check=False, **who,
        )  # fmt: skip

    data = str(here / "data")
    made = run("initdb", "-D", data, "--auth=trust", "--username=airflow", "--encoding=UTF8", "--no-sync")
    assert made.returncode == 0, made.stdout + made.stderr
    with (here / "log").open("wb") as log:
        server = subprocess.Popen(
            [PROGRAMS / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", here, "-F"],
            cwd=here, env=environment, stdout=log, stderr=log, start_new_session=True, **who,
        )  # fmt: skip
    to = ("-h", "127.0.0.1", "-p", str(port), "-U", "airflow")
    try:
        wait_for(lambda: run("pg_isready", *to).returncode == 0, "PostgreSQL", 60.0)
        created = run("createdb", *to, "airflow")
        assert created.returncode == 0, created.stderr
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
    finally:
        server.send_signal(signal.SIGINT)  # "fast": sessions are ended
        server.wait()
        shutil.rmtree(here)
