"""Kill (SIGKILL) or stop (SIGSTOP) every role at every phase, and try again.

After each: the exit code and the name of the rank, no process and no segment left, no partial checkpoint to
be seen, and the same run, tried again, trains every row of the partition once and leaves the bits of a run
that nobody disturbed. PERSIA_CRASH_CASES is how many of all cases are run, or `all`; PERSIA_CRASH_SEED
chooses them, and their order. `make crash-tests` runs all.
"""

import itertools
import os
import random
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from persia_core.config import ModelConfig, parse_config
from persia_core.exit_codes import ExitCode
from persia_core.handoff.consume import pick_up_version
from persia_core.handoff.layout import checkpoint_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.models import version_names
from persia_core.handoff.pointer import CANDIDATE, read_pointer
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.transfer import upload_parts
from persia_core.launch.ending import processes_of
from persia_core.launch.leftovers import SEGMENTS, TABLES, find_leftovers
from persia_core.launch.rank_process import rank_processes
from persia_core.phases import RUN_DIR_VARIABLE, Phase
from tests.integration.test_oracle import every_kind
from tests.support import runs
from tests.support.crash import CrashJob, Outcome, wait_until
from tests.support.faulty_proxy import Fault, Request, faulty_proxy
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_rows

pytestmark = pytest.mark.mpi

DAYS = ("2026-01-01", "2026-01-02")
ROWS = 64 * 12 + 1
ROLES = ["embedding server 0", "embedding server 1", "embedding worker 0", "trainer 0", "trainer 1"]

BEGIN = "begin"  # as soon as the rank gives its first sign of life
WRITING = tuple(f"writing embedding-{server}" for server in range(2))  # as soon as the part is to be seen
PLACES = (BEGIN, *(str(phase) for phase in Phase), *WRITING)


@dataclass(frozen=True)
class Case:
    place: str
    rank: int
    signal: signal.Signals

    def __str__(self) -> str:
        return f"{self.signal.name} {ROLES[self.rank]} at {self.place}".replace(" ", "-")


def seed() -> int:
    return int(os.environ.get("PERSIA_CRASH_SEED", "1"))


def cases() -> list[Case]:
    """The cases of this run. A few of all have every place before any twice, and one in four stops a rank."""
    chosen = os.environ.get("PERSIA_CRASH_CASES", "5")
    generator = random.Random(int(os.environ.get("PERSIA_CRASH_SEED", "1")))
    every = [
        Case(place, rank, number)
        for place, rank, number in itertools.product(
            PLACES, range(len(ROLES)), (signal.SIGKILL, signal.SIGSTOP)
        )
    ]
    generator.shuffle(every)
    if chosen == "all":
        return every
    places = list(PLACES)
    generator.shuffle(places)
    few = []
    signals = [signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP]
    both = zip(itertools.cycle(places), itertools.cycle(signals), strict=False)
    for place, number in itertools.islice(both, int(chosen)):
        case = next(each for each in every if (each.place, each.signal) == (place, number))
        every.remove(case)
        few.append(case)
    return few


def configured(home: Path) -> ModelConfig:
    """A rank or two of each role, and results to the bit."""
    document = every_kind("adagrad").model_dump(mode="json")
    document["training"]["reproducible"] = True
    memory = home / "memory"  # not /dev/shm: other jobs of this host may clean there
    memory.mkdir(exist_ok=True)
    document["checkpoint"] |= {"every_steps": 4, "warm_restart": str(memory)}
    document["cluster"] |= {
        "servers": 2,
        "embedding_workers": 1,
        "trainers": 2,
        "heartbeat_timeout_s": 8.0,
    }
    document["storage"]["url"] = f"file://{home / 'store'}"
    return parse_config(document, "crash")


@dataclass(frozen=True)
class World:
    home: Path
    config: ModelConfig
    whole: CrashJob  # of the second day, undisturbed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two days, the first one trained and stored: the second starts from its checkpoint."""
    home = tmp_path_factory.mktemp("crash")
    config = configured(home)
    store = LocalStore(home / "store")
    for number, ds in enumerate(DAYS):
        write_hashed_partition(config, store, ds, small_rows(ROWS, seed=number))
    first = CrashJob(home, config, DAYS[0], "first")
    first.start(cold_start=True)
    assert first.finish().code == ExitCode.OK
    directory = first.run_dir / "checkpoint"
    manifest = Manifest.from_bytes((directory / "manifest.json").read_bytes(), str(directory))
    upload_parts(store, checkpoint_prefix(config.name, DAYS[0], "first"), directory, manifest)
    whole = CrashJob(home, config, DAYS[1], "whole")
    whole.start()
    assert whole.finish().code == ExitCode.OK
    return World(home, config, whole)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_whatever_dies_wherever_nothing_is_lost(world: World, case: Case) -> None:
    job = CrashJob(world.home, world.config, DAYS[1], str(case))
    hold = Phase(case.place) if case.place in list(Phase) else None
    job.start(hold_at=hold)
    if case.place == BEGIN:
        job.wait_until_beating(case.rank)
    elif hold is not None:
        job.wait_until_held()
    else:
        part = case.place.removeprefix("writing ")
        job.wait_for(lambda: list(job.run_dir.rglob(f"*{part}*.safetensors*")), f"{part} was there")
    job.signal(case.rank, case.signal)
    outcome = job.finish()
    expected = ExitCode.RANK_FAILED if case.signal == signal.SIGKILL else ExitCode.RANK_HUNG
    assert outcome.code == expected, outcome.said[-4000:]
    how = "was ended by signal 9 (SIGKILL)" if case.signal == signal.SIGKILL else "hangs: no sign of life"
    (error,) = (line for line in outcome.said.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: {ROLES[case.rank]} (rank {case.rank}) on ") and how in error
    job.check_nothing_is_left()
    job.check_no_partial_checkpoint()
    check_trains_to_the_end(world, job)


def check_trains_to_the_end(world: World, job: CrashJob) -> Outcome:
    job.start()
    outcome = job.finish()
    assert outcome.code == ExitCode.OK, outcome.said[-4000:]
    metrics = job.metrics()
    assert (metrics["rows_in"], metrics["rows_trained"], metrics["rows_skipped"]) == (ROWS, ROWS, {})
    assert job.parts() == world.whole.parts(), "to the bit"
    job.check_nothing_is_left()
    job.check_no_partial_checkpoint()
    assert not list((world.home / "memory").iterdir()), "tables were left in memory"
    return outcome


def test_what_outlives_the_launcher_and_mpiexec_is_ended_by_the_next_job(world: World) -> None:
    job = CrashJob(world.home, world.config, DAYS[1], "alone")
    job.start(hold_at=Phase.CUT_SAVED)
    job.wait_until_held()
    (tables,) = (world.home / "memory").iterdir()
    shared_memory = job.segments()
    assert shared_memory is not None
    server = next(each.pid for each in rank_processes(job.run_dir) if each.rank == 1)
    parent = psutil.Process(server).ppid()
    mpiexec = psutil.Process(parent).ppid()
    environment = {**os.environ, RUN_DIR_VARIABLE: str(job.run_dir)}
    survivor = subprocess.Popen(["sleep", "3600"], env=environment, start_new_session=True)
    for pid in (server, parent, mpiexec, job.pid):  # stopped first: none sees another one end
        os.kill(pid, signal.SIGSTOP)
    for pid in (parent, mpiexec, job.pid):
        os.kill(pid, signal.SIGKILL)
    assert job.finish().code == -signal.SIGKILL
    # The ranks end by themselves. The stopped one has nobody left who would end it, but the kernel may: where
    # its process group is an orphan now, it hangs up on it.
    left = {survivor.pid, server}
    wait_until(lambda: set(processes_of(job.run_dir)) <= left, "the ranks that were not stopped ended")
    found = {each.path: each.kind for each in find_leftovers(world.home / "work")}
    assert found[tables] == TABLES
    # Another job of this host may remove it first, as it should.
    assert not shared_memory.exists() or found[shared_memory] == SEGMENTS
    said = check_trains_to_the_end(world, job).said
    ended = re.search(r"a killed job of this run had left processes behind, ended now: \[([\d, ]+)\]", said)
    assert ended is not None
    assert {survivor.pid} <= set(map(int, ended[1].split(", "))) <= left
    assert ended.start() < said.index("goes on from step"), "they were ended first"
    assert survivor.wait() in (-signal.SIGTERM, -signal.SIGKILL)
    assert "2 of 2 servers re-attached" in said
    assert not shared_memory.exists()


def test_servers_re_attach_to_their_tables_and_read_parts_where_a_segment_is_torn(world: World) -> None:
    job = CrashJob(world.home, world.config, DAYS[1], "warm")
    job.start(hold_at=Phase.CUT_SAVED)
    job.wait_until_held()
    job.signal(0, signal.SIGKILL)
    assert job.finish().code == ExitCode.RANK_FAILED
    (directory,) = (world.home / "memory").iterdir()
    with (directory / "tables-1.segment").open("r+b") as segment:
        segment.seek(12)  # its state, see docs/formats/table_segment.md
        segment.write(bytes(4))
    tables = [each for each in find_leftovers(world.home / "work") if each.kind == TABLES]
    assert [each.path for each in tables] == [directory]
    assert tables[0].bytes == sum(path.stat().st_size for path in directory.iterdir())
    check_trains_to_the_end(world, job)
    said = (job.run_dir / "job.log").read_text()
    assert f"[embedding server 0] re-attached {len(world.config.tables)} tables with " in said
    assert "/tables-0.segment is whole and of this cut" in said
    assert re.search(
        r"\[embedding server 1\] reloading \d+ tables from 2 parts: .*/tables-1.segment is torn", said
    )
    assert "1 of 2 servers re-attached" in said
    servers = job.metrics()["servers"]
    assert [each["segments"]["attached"] for each in servers] == [1, 0]
    assert [each["segments"]["refused"] for each in servers] == [0, 1]
    assert all(each["segments"]["written"] > 0 == each["segments"]["failed"] for each in servers)


def requests_to_die_at(count: int) -> list[int]:
    """1-based numbers of requests of a publish that makes `count`: all, or one."""
    if os.environ.get("PERSIA_CRASH_CASES") == "all":
        return list(range(1, count + 1))
    return [random.Random(seed()).randint(1, count)]


def test_a_publish_that_is_killed_while_it_uploads_leaves_nothing_half_visible(
    tmp_path: Path, s3_endpoint: str, s3_url: str, s3_store: S3Store
) -> None:
    with faulty_proxy(s3_endpoint) as proxy:
        config = runs.small_config(s3_url)
        storage = config.storage.model_copy(update={"url": s3_store.url, "endpoint_url": proxy.url})
        config = config.model_copy(update={"storage": storage})
        day = runs.make_day(config, s3_store, DAYS[0], rows=30)
        job = CrashJob(tmp_path / "home", config, DAYS[0], "run")
        runs.make_run(config, day, job.run_dir)
        job.start("publish")
        assert job.finish().code == ExitCode.OK
        whole, made = versions(s3_store, tmp_path / "whole"), len(proxy.seen)
        assert len(whole) == 1 and made > 30
        for k in requests_to_die_at(made):
            for info in list(s3_store.list("models/")) + list(s3_store.list("checkpoints/")):
                s3_store.delete(info.key)
            proxy.seen.clear()

            def die(_: Request, k: int = k) -> Fault | None:
                if len(proxy.seen) < k:
                    return None
                job.kill_command()
                return Fault("reset")

            proxy.rule = die
            job.start("publish")
            assert job.finish().code == -signal.SIGKILL
            proxy.rule = lambda _: None
            assert versions(s3_store, tmp_path / f"seen-{k}") in ([], whole)
            job.start("publish")
            outcome = job.finish()
            assert outcome.code == ExitCode.OK, outcome.said[-3000:]
            assert versions(s3_store, tmp_path / f"retried-{k}") == whole


def versions(store: S3Store, into: Path) -> list[str]:
    """What a reader sees, each version read back whole."""
    found = list(version_names(store, "small"))
    for version in found:
        pick_up_version(store, "small", version, into)
    if pointer := read_pointer(store, "small", CANDIDATE):
        assert pointer[0].version in found
    return found
