"""A store that fails at the k-th call of train and publish: success or a clean error, never a wrong model.

The MPI job, which makes no such calls, is not run here: its place is taken by the files that it would leave.
PERSIA_CRASH_CASES=all tries every k; without it a few do, chosen by PERSIA_CRASH_SEED.
"""

import hashlib
import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.config import Config
from botocore.retries.standard import ExponentialBackoff

from persia_core.config import ModelConfig
from persia_core.errors import PersiaError, StorageUnavailable
from persia_core.handoff import s3_store as s3_module
from persia_core.handoff import transfer
from persia_core.handoff.consume import pick_up, pick_up_version
from persia_core.handoff.models import version_names
from persia_core.handoff.pointer import CANDIDATE, read_pointer
from persia_core.handoff.publish import publish
from persia_core.handoff.s3_store import S3Store
from persia_core.launch import train
from persia_core.launch.job import JOB_FILE, Job
from tests.support.faulty_proxy import Fault, FaultyProxy, Request, faulty_proxy
from tests.support.runs import Day, make_day, make_run, small_config

YESTERDAY, DS, RUN = "2026-11-01", "2026-11-02", "run-1"
FAULTS = {
    "500": Fault("answer", 500, "InternalError"),
    "503": Fault("answer", 503, "SlowDown"),
    "reset": Fault("reset"),
    "timeout": Fault("stall"),
}
ALL = os.environ.get("PERSIA_CRASH_CASES") == "all"
FEW = 4


@dataclass
class Stages:
    """Train and publish one day through the proxy, from a checkpoint of the day before."""

    config: ModelConfig
    proxy: FaultyProxy
    upstream: str
    url: str
    day: Day
    home: Path

    def run(self) -> str:
        """The version that was published."""
        store = S3Store(self.url, self.proxy.url)
        train.train_partition(self.config, store, DS, RUN)
        return publish(self.config, store, DS, self.run_dir).version

    @property
    def run_dir(self) -> Path:
        return self.home / "work" / self.config.name / f"ds={DS}" / RUN

    def direct(self) -> S3Store:
        return S3Store(self.url, self.upstream)

    def forget(self) -> None:
        """Undo train and publish: remove what they have made here and there."""
        train.shutil.rmtree(self.home, ignore_errors=True)
        store = self.direct()
        for info in list(store.list("")):
            if info.key.startswith((f"checkpoints/{self.config.name}/ds={DS}/", "models/")):
                store.delete(info.key)


@pytest.fixture(scope="module")
def stages(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    import boto3

    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket="faults")
    root = tmp_path_factory.mktemp("faults")
    url = "s3://faults/persia"
    config, store = small_config(), S3Store(url, s3_endpoint)
    earlier = make_day(config, store, YESTERDAY, rows=30)
    publish(config, store, YESTERDAY, make_run(config, earlier, root / "earlier" / "run-0"))
    day = make_day(config, store, DS, rows=30, seed=1)
    with faulty_proxy(s3_endpoint) as proxy:
        yield Stages(config, proxy, s3_endpoint, url, day, root / "home")


@pytest.fixture(autouse=True)
def one_call_at_a_time(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the k-th call is one call; and nobody waits a minute for a reply that does not come."""

    def run_job(job: Job) -> None:
        check_inputs(stages, job)
        (job.run_dir / JOB_FILE).write_text(job.model_dump_json())
        made = job.run_dir.with_name("made")
        make_run(stages.config, stages.day, made, parent=job.parent)
        for path in made.iterdir():
            path.rename(job.run_dir / path.name)
        made.rmdir()

    usual: Callable[[str | None], Config] = s3_module._config
    monkeypatch.setattr(s3_module, "_config", lambda url: usual(url).merge(Config(read_timeout=1)))
    # botocore waits up to a second before it tries again, and more the next time.
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.0)
    monkeypatch.setattr(transfer, "_PARALLEL", 1)
    monkeypatch.setattr(train, "run_job", run_job)
    monkeypatch.setenv("PERSIA_HOME", str(stages.home))
    stages.proxy.rule = lambda _: None
    stages.proxy.seen.clear()
    stages.forget()


def check_inputs(stages: Stages, job: Job) -> None:
    """What was fetched is, byte by byte, what lies in the store."""
    store = stages.direct()
    assert job.parent_dir is not None and job.parent is not None
    for directory, prefix in (
        (job.parent_dir, job.parent),
        (job.partition_dir, f"hashed/clicks/ds={DS}/"),
    ):
        keys = [info.key for info in store.list(prefix)]
        assert len(keys) > 1
        for key in keys:
            assert (directory / key.removeprefix(prefix)).read_bytes() == store.get(key).data


def visible(stages: Stages, into: Path) -> list[str]:
    """The versions that a reader sees, each read back whole."""
    store = stages.direct()
    found = list(version_names(store, stages.config.name))
    for version in found:
        pick_up_version(store, stages.config.name, version, into)
    if pointer := read_pointer(store, stages.config.name, CANDIDATE):
        assert pointer[0].version in found
    return found


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", FAULTS)
def test_a_call_that_fails_once_is_made_again(stages: Stages, tmp_path: Path, kind: str) -> None:
    """Every call fails the first time, and the stages go through. Of time-outs, which take theirs, a few."""
    whole = stages.run()
    calls = len(stages.proxy.seen)
    stages.forget()
    seen: set[tuple[str, str, int]] = set()
    counts: dict[tuple[str, str], int] = {}
    stride = 10 if kind == "timeout" and not ALL else 1

    def every_first(request: Request) -> Fault | None:
        call = (request.method, request.path)
        number = counts[call] = counts.get(call, 0) + 1
        if number % 2 == 0 or len(counts) % stride:
            return None
        seen.add((*call, number))
        return FAULTS[kind]

    stages.proxy.rule = every_first
    assert stages.run() == whole
    assert calls > 40 and len(seen) >= (calls if stride == 1 else FEW), "calls have failed"
    assert visible(stages, tmp_path / "seen") == [whole]


def ks(calls: int) -> list[int]:
    """Which calls are tried: all, or a few, each from its own stretch of the run."""
    if ALL:
        return list(range(1, calls + 1))
    generator = random.Random(int(os.environ.get("PERSIA_CRASH_SEED", "1")))
    edges = [1 + calls * number // FEW for number in range(FEW + 1)]
    return [generator.randrange(low, high) for low, high in itertools.pairwise(edges)]


def test_a_store_that_goes_away_at_any_call_is_a_clean_error_and_a_retry_completes(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stages.run()
    made = digests(stages.run_dir / "checkpoint")
    calls = len(stages.proxy.seen)
    usual = s3_module._config
    once = Config(retries={"mode": "standard", "total_max_attempts": 1})
    monkeypatch.setattr(s3_module, "_config", lambda url: usual(url).merge(once))
    monkeypatch.setattr(s3_module, "_ATTEMPTS", 1)
    monkeypatch.setattr(s3_module, "_CONFLICT_ATTEMPTS", 1)
    for number, k in enumerate(ks(calls)):
        kinds = list(FAULTS) if ALL else [list(FAULTS)[number % len(FAULTS)]]
        for kind in kinds:
            fault = FAULTS[kind]
            stages.forget()
            left = [k - 1]

            def from_k_on(_: Request, left: list[int] = left, fault: Fault = fault) -> Fault | None:
                left[0] -= 1
                return fault if left[0] < 0 else None

            stages.proxy.rule = from_k_on
            with pytest.raises(PersiaError) as caught:
                stages.run()
            assert isinstance(caught.value, StorageUnavailable), f"call {k}, {kind}: {caught.value}"
            assert set(visible(stages, tmp_path / f"{k}-{kind}")) <= {whole}
            stages.proxy.rule = lambda _: None
            assert stages.run() == whole
            assert digests(stages.run_dir / "checkpoint") == made
            assert visible(stages, tmp_path / f"{k}-{kind}") == [whole]
            model = pick_up(stages.direct(), stages.config.name, tmp_path / "model", CANDIDATE)
            assert model.version == whole
